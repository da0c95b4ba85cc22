/**
 * How deeply messages may nest. Readers of Protobuf stop at 100 levels, and what we take is wrapped further (in a Task, in an
 * update of the log, in a page of a list) before it is read again: what was accepted must always be readable.
 */

/** Levels of messages in Protobuf's binary form. */
export const MAX_BINARY_DEPTH = 90;

/** Levels of messages when they come as JSON: a value in a `data` part is two levels in the binary form. */
export const MAX_JSON_MESSAGE_DEPTH = 45;
