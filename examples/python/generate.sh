#!/usr/bin/env bash
# Makes the Python modules of the A2A contract from this repository's .proto files.
#
#     ./generate.sh [FOLDER]     FOLDER defaults to gen, beside this script
#
# Needs `npm install` in the repository (it brings google/api and google/rpc), and on Debian:
#     apt-get install protobuf-compiler protobuf-compiler-grpc python3-grpcio python3-protobuf libprotobuf-dev
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
root="$here/../.."
out="${1:-$here/gen}"
python="${PYTHON:-/usr/bin/python3}"

# protoc 3.21 makes code for the Python package 4.21: the numbers after the first have to agree.
compiler="$(protoc --version | cut -d ' ' -f 2)"
runtime="$("$python" -c 'import google.protobuf as p; print(p.__version__)')"
if [ "${compiler#*.}" != "${runtime#*.}" ]; then
  echo "protoc $compiler does not fit the Python package protobuf $runtime: install both from the same release." >&2
  exit 1
fi

mkdir -p "$out"
generate() {
  protoc --plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)" \
    --python_out="$out" --grpc_python_out="$out" "$@"
}
generate -I "$root/proto" -I "$root/node_modules/google-proto-files" \
  lf/a2a/v1/a2a.proto \
  google/api/annotations.proto google/api/field_behavior.proto google/api/http.proto \
  google/rpc/status.proto google/rpc/error_details.proto
# A module grpc.reflection would have to live inside the installed package grpc, so this one stands at the top.
generate -I "$root/proto/grpc/reflection/v1" reflection.proto
