/** Which waiting task a replica takes first, within its workspace. Stored as the index. */
export const PRIORITIES = ["BACKGROUND", "LOW", "NORMAL", "HIGH", "CRITICAL"] as const;

export type Priority = (typeof PRIORITIES)[number];
