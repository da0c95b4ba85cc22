/** The JSON of a stream's items, as both JSON bindings send it. */
import type { JsonValue, Message } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { eventDialectKey } from "./rpc/bound.ts";
import { sharedForm } from "./shared-form.ts";

/**
 * Makes the text of an item, of each one once, however many streams bring it; but in a dialect, which is a stream's own, for
 * each stream. `write` makes its ProtoJSON.
 */
export function eventWriter(write: (item: Message) => JsonValue): (item: Message, context: HandlerContext) => string {
  const shared = sharedForm((item) => JSON.stringify(write(item)));
  return (item, { values }) => {
    const dialect = values.get(eventDialectKey);
    return dialect === eventDialectKey.defaultValue ? shared(item) : JSON.stringify(dialect(write(item)));
  };
}
