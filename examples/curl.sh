#!/usr/bin/env bash
# Speaks A2A with a router in its two JSON bindings, with nothing but curl.
#
#     examples/curl.sh [URL] [TEXT]     URL defaults to http://127.0.0.1:8080
set -euo pipefail

server="${1:-http://127.0.0.1:8080}"
text="${2:-Hello from curl.}"
# As JSON writes it.
text="${text//\\/\\\\}" text="${text//\"/\\\"}"
curl=(curl --silent --show-error --fail-with-body -H "Content-Type: application/json" -H "A2A-Version: 1.0")

title() { printf '\n# %s\n' "$*"; }
message() { printf '{"messageId": "%s", "role": "ROLE_USER", "parts": [{"text": "%s"}]}' "$1" "$text"; }

title "The card: who is there, and what they can do"
"${curl[@]}" "$server/.well-known/agent-card.json"

title "JSON-RPC: send a message, wait for the task"
"${curl[@]}" "$server/rpc" \
  -d '{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": '"$(message curl-1)"'}}'

title "HTTP+JSON: the same"
"${curl[@]}" "$server/message:send" -d '{"message": '"$(message curl-2)"'}'

title "HTTP+JSON: follow the task while it runs (server-sent events)"
events="$(mktemp)"
trap 'rm -f "$events"' EXIT
"${curl[@]}" --no-buffer "$server/message:stream" -d '{"message": '"$(message curl-3)"'}' | tee "$events"

title "HTTP+JSON: go on after its first event, as if the connection had broken there"
task="$(sed -n 's/^data: {"task":{"id":"\([^"]*\)".*/\1/p' "$events")"
first="$(sed -n '/^id: /{s///p;q;}' "$events")"
# An agent may have answered with a message; then there is no task. One that waits for its client would be followed on and on.
[ -z "$task" ] || ! grep -qE 'TASK_STATE_(COMPLETED|FAILED|CANCELED|REJECTED)' "$events" ||
  "${curl[@]}" --no-buffer -H "Last-Event-ID: $first" "$server/tasks/$task:subscribe"

title "HTTP+JSON: the two tasks that changed last"
"${curl[@]}" "$server/tasks?pageSize=2&includeArtifacts=true"
echo
