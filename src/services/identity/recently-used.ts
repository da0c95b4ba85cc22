/** What was asked for lately: a map of bounded size, which forgets first what was not asked for the longest. */
export interface RecentlyUsed<V> {
  get(key: string): V | undefined;
  set(key: string, value: V): void;
}

export function createRecentlyUsed<V>(max: number): RecentlyUsed<V> {
  // In the order of their last use.
  const values = new Map<string, V>();
  return {
    get(key) {
      const value = values.get(key);
      if (value === undefined) return undefined;
      values.delete(key);
      values.set(key, value);
      return value;
    },
    set(key, value) {
      values.delete(key);
      values.set(key, value);
      if (values.size > max) values.delete(values.keys().next().value!);
    },
  };
}
