/**
 * What a client may say about how its task is carried, in the metadata of its request under our extension's URI. Keys that
 * are not known here are left for others to read.
 */
import { create } from "@bufbuild/protobuf";
import { type AgentExtension, AgentExtensionSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { FieldViolation } from "./errors.ts";
import { PRIORITIES, type Priority } from "./task-log.ts";

export const ROUTING_EXTENSION = "urn:signalbox:a2a:routing:v1";

/** How our cards declare it (A2A specification, section 4.6.1). */
export const routingDeclaration = (): AgentExtension =>
  create(AgentExtensionSchema, {
    uri: ROUTING_EXTENSION,
    description: `The metadata of a SendMessageRequest may say how its task is carried, as {"priority": "HIGH", "deadlineMs": 60000}. priority (${PRIORITIES.join(", ")}): which of its workspace's waiting tasks is begun first. deadlineMs: the task fails when it has not ended so many milliseconds after it was accepted.`,
    required: false,
  });

export interface RoutingWishes {
  /** Which of its workspace's waiting tasks a replica takes first. NORMAL unless told. */
  priority?: Priority;
  /** The task fails when it has not ended so many milliseconds after it was accepted. */
  deadlineMs?: number;
}

/** A year: beyond it a deadline is none. */
const LONGEST_DEADLINE_MS = 31_536_000_000;

/** Reads the wishes of a request, or tells what is wrong with them, by path. */
export function routingWishes(metadata: Record<string, unknown> | undefined): RoutingWishes | FieldViolation[] {
  const said = metadata?.[ROUTING_EXTENSION];
  if (said === undefined) return {};
  const field = `metadata["${ROUTING_EXTENSION}"]`;
  if (typeof said !== "object" || said === null || Array.isArray(said)) {
    return [{ field, description: 'must be an object, as {"priority": "HIGH", "deadlineMs": 60000}' }];
  }
  const { priority, deadlineMs } = said as Record<string, unknown>;
  const violations: FieldViolation[] = [];
  if (priority !== undefined && !PRIORITIES.includes(priority as Priority)) {
    violations.push({ field: `${field}.priority`, description: `must be one of ${PRIORITIES.join(", ")}` });
  }
  if (deadlineMs !== undefined && !isDeadline(deadlineMs)) {
    violations.push({
      field: `${field}.deadlineMs`,
      description: `must be a whole number of milliseconds from 1 to ${LONGEST_DEADLINE_MS}`,
    });
  }
  if (violations.length > 0) return violations;
  return {
    ...(priority !== undefined && { priority: priority as Priority }),
    ...(deadlineMs !== undefined && { deadlineMs: deadlineMs as number }),
  };
}

const isDeadline = (value: unknown): boolean =>
  typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= LONGEST_DEADLINE_MS;
