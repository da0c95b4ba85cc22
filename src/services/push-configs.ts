/** Push notification configs of a task (A2A specification, sections 3.1.7 to 3.1.10). */
import { hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type DeleteTaskPushNotificationConfigRequest,
  type GetTaskPushNotificationConfigRequest,
  type ListTaskPushNotificationConfigsRequest,
  type ListTaskPushNotificationConfigsResponse,
  ListTaskPushNotificationConfigsResponseSchema,
  type TaskPushNotificationConfig,
  TaskPushNotificationConfigSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { clip, type FieldViolation, invalidArgument, SignalboxError } from "../domain/errors.ts";
import { idViolations } from "../domain/message-rules.ts";
import { refuse } from "../domain/refusal.ts";
import type { HeldFor, PushConfigRepository, PushFrom } from "../store/push-config-repository.ts";
import type { WebhookSender } from "./agent-port.ts";
import type { Audit } from "./audit.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";
import type { Tasks } from "./tasks.ts";

const MAX_PAGE = 100;
/** Webhooks of one task. */
export const MAX_CONFIGS = 100;
/** Longest url, token, scheme or credentials. */
const MAX_TEXT = 4096;
/** What may stand in an HTTP header; anything else could write headers of its own. */
const HEADER_TEXT = /^[\t\x20-\x7e]*$/;

/** Configs hold their owner's tokens: who may not change the task does not see them. */
export interface PushConfigs {
  /** Checks an inline config of the caller. */
  prepare(context: RequestContext, config: TaskPushNotificationConfig): Promise<PreparedPushConfig>;
  create(context: RequestContext, config: TaskPushNotificationConfig): Promise<TaskPushNotificationConfig>;
  get(context: RequestContext, request: GetTaskPushNotificationConfigRequest): Promise<TaskPushNotificationConfig>;
  list(
    context: RequestContext,
    request: ListTaskPushNotificationConfigsRequest,
  ): Promise<ListTaskPushNotificationConfigsResponse>;
  remove(context: RequestContext, request: DeleteTaskPushNotificationConfigRequest): Promise<void>;
}

/** An inline config that may be stored. */
export interface PreparedPushConfig {
  /** Stores it under a task: one that begins with it, "start", or one that goes on, "now". `release`: what that was held back for. */
  store(workspaceId: string, taskId: string, from: PushFrom, release?: HeldFor): Promise<void>;
}

type Caller = Pick<RequestContext, "workspaceId" | "principal">;

interface PushConfigDeps {
  repository: PushConfigRepository;
  tasks: Tasks;
  webhooks: WebhookSender;
  audit: Audit;
  runtime: Runtime;
}

export function createPushConfigs({ repository, tasks, webhooks, audit, runtime }: PushConfigDeps): PushConfigs {
  async function check(config: TaskPushNotificationConfig, at: string): Promise<void> {
    refuse(configViolations(config, at));
    try {
      await webhooks.check(config.url);
    } catch (error) {
      if (!(error instanceof SignalboxError) || error.code !== "INVALID_ARGUMENT") throw error;
      throw invalidArgument([{ field: `${at}url`, description: error.message }], error);
    }
  }

  const stored = (config: TaskPushNotificationConfig, taskId: string): TaskPushNotificationConfig =>
    create(TaskPushNotificationConfigSchema, { ...config, tenant: "", taskId, id: config.id || runtime.newId() });

  async function put(
    { workspaceId, principal }: Caller,
    config: TaskPushNotificationConfig,
    from: PushFrom,
    release?: HeldFor,
  ): Promise<void> {
    const { taskId, id, url, authentication } = config;
    // Addresses may hold secrets, as tokens do.
    const detail = { url: digestOf(url), ...(authentication && { scheme: clip(authentication.scheme) }) };
    const deed = { action: "push-config.put", targetType: "push-config", targetId: id, taskId, detail };
    const record = audit.recording({ workspaceId, principal }, deed);
    const options = { now: runtime.now(), most: MAX_CONFIGS, from, release, record };
    if (await repository.put(workspaceId, config, options)) return;
    throw new SignalboxError({
      code: "RESOURCE_EXHAUSTED",
      reason: "TOO_MANY_PUSH_CONFIGS",
      message: `Task "${config.taskId}" has ${MAX_CONFIGS} push notification configs, which is the most. Delete one first.`,
      metadata: { taskId: config.taskId, limit: String(MAX_CONFIGS) },
    });
  }

  return {
    async prepare({ principal }, config) {
      await check(config, "configuration.taskPushNotificationConfig.");
      return {
        store: (workspaceId, taskId, from, release) =>
          put({ workspaceId, principal }, stored(config, taskId), from, release),
      };
    },

    async create(context, config) {
      refuse(missing({ taskId: config.taskId }));
      const { header } = await tasks.changeable(context, config.tenant, config.taskId);
      await check(config, "");
      const result = stored(config, header.taskId);
      await put(context, result, "now");
      return result;
    },

    async get(context, request) {
      refuse(missing({ taskId: request.taskId, id: request.id }));
      const { header } = await tasks.changeable(context, request.tenant, request.taskId);
      const config = idViolations("id", request.id).length
        ? undefined
        : await repository.get(context.workspaceId, header.taskId, request.id);
      if (!config) throw configNotFound(header.taskId, request.id);
      return config;
    },

    async list(context, request) {
      refuse(missing({ taskId: request.taskId }));
      const { header } = await tasks.changeable(context, request.tenant, request.taskId);
      if (request.pageSize < 0) throw invalidArgument([{ field: "pageSize", description: "must not be negative" }]);
      const limit = Math.min(request.pageSize || MAX_PAGE, MAX_PAGE);
      const afterId = request.pageToken === "" ? undefined : Buffer.from(request.pageToken, "base64url").toString();
      refuse(idViolations("pageToken", afterId ?? ""));
      const found = await repository.list(context.workspaceId, header.taskId, {
        limit: limit + 1,
        ...(afterId !== undefined && { afterId }),
      });
      const configs = found.slice(0, limit);
      const last = configs.at(-1);
      return create(ListTaskPushNotificationConfigsResponseSchema, {
        configs,
        nextPageToken: found.length > limit && last ? Buffer.from(last.id).toString("base64url") : "",
      });
    },

    async remove(context, request) {
      refuse(missing({ taskId: request.taskId, id: request.id }));
      const { header } = await tasks.changeable(context, request.tenant, request.taskId);
      if (idViolations("id", request.id).length > 0) return;
      const { taskId } = header;
      const deed = { action: "push-config.remove", targetType: "push-config", targetId: request.id, taskId };
      await repository.remove(context.workspaceId, taskId, request.id, audit.recording(context, deed));
    },
  };
}

const digestOf = (text: string): string => hash("sha256", text, "hex");

/** What names nothing. */
function missing(ids: Record<string, string>): FieldViolation[] {
  return Object.entries(ids).flatMap(([field, id]) => (id === "" ? [{ field, description: "is required" }] : []));
}

function configViolations(config: TaskPushNotificationConfig, at: string): FieldViolation[] {
  const texts: [string, string][] = [
    ["url", config.url],
    ["token", config.token],
    ["authentication.scheme", config.authentication?.scheme ?? ""],
    ["authentication.credentials", config.authentication?.credentials ?? ""],
  ];
  const violations = [...idViolations(`${at}id`, config.id)];
  for (const [field, text] of texts) {
    if (text.length > MAX_TEXT) violations.push({ field: at + field, description: `at most ${MAX_TEXT} characters` });
    else if (!HEADER_TEXT.test(text)) violations.push({ field: at + field, description: "only printable ASCII" });
  }
  if (config.url === "") violations.push({ field: `${at}url`, description: "is required: where to post updates" });
  if (config.authentication && config.authentication.scheme === "") {
    violations.push({ field: `${at}authentication.scheme`, description: "is required, as Bearer" });
  }
  return violations;
}

/** The specification has no error of its own for this one; section 3.1.8 names TaskNotFound. */
function configNotFound(taskId: string, id: string): SignalboxError {
  return new SignalboxError({
    code: "NOT_FOUND",
    reason: "TASK_NOT_FOUND",
    domain: "a2a-protocol.org",
    message: `Task "${taskId}" has no push notification config "${id.replaceAll("\0", "").slice(0, 128)}".`,
    metadata: { taskId },
  });
}
