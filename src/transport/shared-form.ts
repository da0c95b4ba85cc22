/**
 * What is sent of an item of a stream, made once for all who watch: what this process writes to a log it shows to each watcher as
 * the same object. An item that was given is not changed any more.
 */
import type { Message } from "@bufbuild/protobuf";

/** Makes what `make` makes of an item once, and keeps it as long as somebody has the item. */
export function sharedForm<Form extends object | string>(make: (item: Message) => Form): (item: Message) => Form {
  const known = new WeakMap<Message, Form>();
  return (item) => {
    let form = known.get(item);
    if (form === undefined) {
      form = make(item);
      known.set(item, form);
    }
    return form;
  };
}
