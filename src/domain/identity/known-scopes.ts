/** All scopes that there are: what RPCs need, and what roles give. Pure. */
import { type DescFile, getOption, hasOption } from "@bufbuild/protobuf";
import { file_signalbox_v1_approval } from "../../../gen/signalbox/v1/approval_pb.ts";
import { file_signalbox_v1_audit } from "../../../gen/signalbox/v1/audit_pb.ts";
import { file_signalbox_v1_budget } from "../../../gen/signalbox/v1/budget_pb.ts";
import { file_signalbox_v1_cache } from "../../../gen/signalbox/v1/cache_pb.ts";
import { file_signalbox_v1_message } from "../../../gen/signalbox/v1/message_pb.ts";
import { required_scope } from "../../../gen/signalbox/v1/options_pb.ts";
import { file_signalbox_v1_policy } from "../../../gen/signalbox/v1/policy_pb.ts";
import { file_signalbox_v1_registry } from "../../../gen/signalbox/v1/registry_pb.ts";
import { file_signalbox_v1_reputation } from "../../../gen/signalbox/v1/reputation_pb.ts";
import { file_signalbox_v1_rollout } from "../../../gen/signalbox/v1/rollout_pb.ts";
import { file_signalbox_v1_routing } from "../../../gen/signalbox/v1/routing_pb.ts";
import { file_signalbox_v1_task } from "../../../gen/signalbox/v1/task_pb.ts";
import { file_signalbox_v1_workspace } from "../../../gen/signalbox/v1/workspace_pb.ts";
import { ROLES, scopesOf } from "./roles.ts";

const FILES: readonly DescFile[] = [
  file_signalbox_v1_approval,
  file_signalbox_v1_audit,
  file_signalbox_v1_budget,
  file_signalbox_v1_cache,
  file_signalbox_v1_message,
  file_signalbox_v1_policy,
  file_signalbox_v1_registry,
  file_signalbox_v1_reputation,
  file_signalbox_v1_rollout,
  file_signalbox_v1_routing,
  file_signalbox_v1_task,
  file_signalbox_v1_workspace,
];

/** Without `*`, which is all of them. */
export function knownScopes(): ReadonlySet<string> {
  const scopes = scopesOf(Object.keys(ROLES));
  for (const method of FILES.flatMap(({ services }) => services).flatMap(({ methods }) => methods)) {
    if (hasOption(method, required_scope)) scopes.add(getOption(method, required_scope));
  }
  scopes.delete("*");
  return scopes;
}
