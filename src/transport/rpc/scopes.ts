/**
 * The scope that each RPC needs. Ours say it themselves, as a method option; A2AService stays as the standard wrote it,
 * so its scopes stand here.
 */
import { type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { required_scope } from "../../../gen/signalbox/v1/options_pb.ts";

const A2A_SCOPES: Record<keyof typeof A2AService.method, string> = {
  sendMessage: "tasks.write",
  sendStreamingMessage: "tasks.write",
  getTask: "tasks.read",
  listTasks: "tasks.read",
  cancelTask: "tasks.write",
  subscribeToTask: "tasks.read",
  createTaskPushNotificationConfig: "tasks.write",
  // Webhooks hold tokens: they are for those who may change the task.
  getTaskPushNotificationConfig: "tasks.write",
  listTaskPushNotificationConfigs: "tasks.write",
  deleteTaskPushNotificationConfig: "tasks.write",
  getExtendedAgentCard: "agents.read",
};

/** Services that anyone may call before anything is known of them: health checks and reflection. */
const OPEN_PACKAGES = ["grpc.health.v1", "grpc.reflection.v1", "grpc.reflection.v1alpha"];

/** The scope of an RPC, or undefined for one that is open to all. Throws for one that says nothing: it must not start. */
export function scopeOf(method: DescMethod): string | undefined {
  const { parent } = method;
  if (OPEN_PACKAGES.includes(parent.file.proto.package)) return undefined;
  if (parent.typeName === A2AService.typeName) return A2A_SCOPES[method.localName as keyof typeof A2A_SCOPES];
  if (hasOption(method, required_scope)) return getOption(method, required_scope);
  throw new Error(`${parent.typeName}.${method.name} declares no signalbox.v1.required_scope`);
}
