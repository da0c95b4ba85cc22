/** signalbox.v1.MessageService over exchanges. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { ExchangeMessage, MessageService } from "../../../gen/signalbox/v1/message_pb.ts";
import type { Exchanges, NumberedAnswer } from "../../services/exchange/exchanges.ts";
import { requestContextOf } from "./bind.ts";
import { setSequence } from "./bound.ts";
import { headerOf } from "./call-context.ts";
import { readCursor } from "./resume.ts";

export function createMessageService(exchanges: Exchanges): ServiceImpl<typeof MessageService> {
  return {
    exchange: ({ message }, context) => exchanges.exchange(requestContextOf(context), message),
    exchangeStream: ({ message }, context) => {
      const cursor = readCursor((name) => headerOf(context, name));
      return numbered(exchanges.stream(requestContextOf(context), message, cursor));
    },
    listExchanges: (request, context) => exchanges.list(requestContextOf(context), request),
  };
}

async function* numbered(answers: AsyncIterable<NumberedAnswer>): AsyncGenerator<ExchangeMessage> {
  for await (const { message, sequence } of answers)
    yield sequence === undefined ? message : setSequence(message, sequence);
}
