/**
 * What is to be ended together, such as all calls of a server that stops. Joining and leaving cost the same however many
 * there are; a long-lived AbortSignal walks through all its listeners for each one that comes or goes.
 */

/** An AbortController, or what else can be ended with a reason. */
export interface Abortable {
  abort(reason: unknown): void;
}

export interface AbortGroup extends Abortable {
  /** Ends at once what comes when the group has ended. */
  add(member: Abortable): void;
  delete(member: Abortable): void;
}

export function createAbortGroup(): AbortGroup {
  const members = new Set<Abortable>();
  let ended: { reason: unknown } | undefined;
  return {
    add(member) {
      if (ended) member.abort(ended.reason);
      else members.add(member);
    },
    delete: (member) => void members.delete(member),
    abort(reason) {
      ended ??= { reason };
      const now = [...members];
      members.clear();
      for (const member of now) member.abort(reason);
    },
  };
}
