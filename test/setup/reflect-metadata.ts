/** What @peculiar/x509 wants of the package reflect-metadata: facts about functions. Imported before it. */
const facts = new WeakMap<object, Map<unknown, unknown>>();

function own(key: unknown, target: object): unknown {
  return facts.get(target)?.get(key);
}

function inherited(key: unknown, target: object | null): unknown {
  for (let at = target; at; at = Object.getPrototypeOf(at)) {
    if (facts.get(at)?.has(key)) return own(key, at);
  }
  return undefined;
}

function define(key: unknown, value: unknown, target: object): void {
  const known = facts.get(target) ?? new Map();
  facts.set(target, known.set(key, value));
}

if (!("getMetadata" in Reflect))
  Object.assign(Reflect, { defineMetadata: define, getMetadata: inherited, getOwnMetadata: own });
