/** Signalbox as it is, with one agent in the process. Its settings are the first argument: a JSON object, by flag. */
import { create } from "@bufbuild/protobuf";
import { type Message, Role, SendMessageResponseSchema, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
