/** The google.rpc details of an error: the part that is the same in every binding. */
import { create, createRegistry, type Message, type Registry } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import {
  type BadRequest,
  BadRequestSchema,
  type ErrorInfo,
  ErrorInfoSchema,
  type RetryInfo,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.ts";
import type { ErrorCode, SignalboxError } from "./errors.ts";

type Detail = (ErrorInfo | BadRequest | RetryInfo) & Message;

/** For ProtoJSON of packed details. */
export const detailRegistry: Registry = createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema);

/** The numbers of google.rpc.Code, which are those of gRPC. */
export const GRPC_CODE: Record<ErrorCode, number> = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
};

/** ErrorInfo always; BadRequest when fields are named; RetryInfo when a later try can help. */
export function errorDetails(error: SignalboxError): Detail[] {
  const details: Detail[] = [
    create(ErrorInfoSchema, { reason: error.reason, domain: error.domain, metadata: { ...error.metadata } }),
  ];
  if (error.violations.length > 0) {
    const fieldViolations = error.violations.map((v) => ({ field: v.field, description: v.description }));
    details.push(create(BadRequestSchema, { fieldViolations }));
  }
  if (error.retryAfterMs !== undefined) {
    const seconds = Math.floor(error.retryAfterMs / 1000);
    const nanos = Math.round(error.retryAfterMs % 1000) * 1e6;
    details.push(create(RetryInfoSchema, { retryDelay: { seconds: BigInt(seconds), nanos } }));
  }
  return details;
}

/** The same details, packed. */
export function packedErrorDetails(error: SignalboxError): Any[] {
  return errorDetails(error).map((detail) => {
    if (detail.$typeName === "google.rpc.ErrorInfo") return anyPack(ErrorInfoSchema, detail as ErrorInfo);
    if (detail.$typeName === "google.rpc.BadRequest") return anyPack(BadRequestSchema, detail as BadRequest);
    return anyPack(RetryInfoSchema, detail as RetryInfo);
  });
}
