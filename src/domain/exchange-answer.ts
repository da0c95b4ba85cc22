/** The router's answers to messages of an exchange. Pure. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { BadRequest, ErrorInfo, RetryInfo } from "../../gen/google/rpc/error_details_pb.ts";
import {
  type ExchangeError,
  ExchangeErrorSchema,
  ExchangeKind,
  type ExchangeMessage,
  ExchangeMessageSchema,
  type ExchangeResult,
  type ExchangeResultSchema,
} from "../../gen/signalbox/v1/message_pb.ts";
import { errorDetails, GRPC_CODE } from "./error-details.ts";
import type { SignalboxError } from "./errors.ts";
import { ROUTER } from "./exchange-rules.ts";

/** What came of an act. */
export type ActResult = NonNullable<MessageInitShape<typeof ExchangeResultSchema>["result"]>;

/** The answer to a message: what came of it, or what went wrong. */
export function answerTo(
  asked: ExchangeMessage,
  outcome: ActResult | SignalboxError,
  { messageId, now }: { messageId: string; now: Date },
): ExchangeMessage {
  const failed = outcome instanceof Error;
  return create(ExchangeMessageSchema, {
    messageId,
    correlationId: asked.correlationId,
    sender: ROUTER,
    receiver: asked.sender,
    kind: failed ? ExchangeKind.ERROR : ExchangeKind.RESPONSE,
    inReplyTo: asked.messageId,
    createTime: timestampFromDate(now),
    success: !failed,
    payload: failed ? { case: "error", value: exchangeError(outcome) } : { case: "result", value: { result: outcome } },
  });
}

/** An error as the answer says it. */
export function exchangeError(error: SignalboxError): ExchangeError {
  const details = errorDetails(error);
  const detail = (name: string) => details.find(({ $typeName }) => $typeName === `google.rpc.${name}`);
  const [badRequest, retryInfo] = [detail("BadRequest"), detail("RetryInfo")];
  return create(ExchangeErrorSchema, {
    code: GRPC_CODE[error.code],
    message: error.message,
    info: detail("ErrorInfo") as ErrorInfo,
    ...(badRequest && { badRequest: badRequest as BadRequest }),
    ...(retryInfo && { retryInfo: retryInfo as RetryInfo }),
  });
}

/** The task that a message is about, where it tells. */
export function taskIdOf({ payload }: ExchangeMessage): string | undefined {
  switch (payload.case) {
    case "observe":
    case "revise":
    case "explain":
    case "verify":
      return payload.value.taskId;
    case "result":
      return taskIdIn(payload.value);
    default:
      return undefined;
  }
}

function taskIdIn({ result }: ExchangeResult): string | undefined {
  if (result.case === "delegate" || result.case === "revise") return result.value.task?.id;
  return undefined;
}
