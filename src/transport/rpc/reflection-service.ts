/**
 * Server reflection, v1 and v1alpha: equal messages under two names, so one function answers both. It tells the descriptors
 * that the services were generated from.
 */

import { create, type DescFile, type DescMessage, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from "../../../gen/grpc/reflection/v1/reflection_pb.ts";
import {
  ServerReflectionResponseSchema as AlphaResponseSchema,
  type ServerReflection as ServerReflectionAlpha,
} from "../../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { clip } from "../../domain/errors.ts";

/** The google.rpc.Code of what reflection does not know; it travels inside the answer. */
const NOT_FOUND = 5;
const INVALID_ARGUMENT = 3;

type Answer = ServerReflectionResponse["messageResponse"];
type Question = ServerReflectionRequest["messageRequest"];

/** `services` are all that the server has, reflection itself among them. */
export function createReflection(services: readonly DescService[]): {
  v1: ServiceImpl<typeof ServerReflection>;
  v1alpha: ServiceImpl<typeof ServerReflectionAlpha>;
} {
  const index = indexFiles(services.map((service) => service.file));

  const files = (file: DescFile | undefined, asked: string): Answer =>
    file
      ? {
          case: "fileDescriptorResponse",
          value: { $typeName: "grpc.reflection.v1.FileDescriptorResponse", fileDescriptorProto: encoded(file) },
        }
      : notFound(asked);

  function answer(question: Question): Answer {
    switch (question.case) {
      case "fileByFilename":
        return files(index.byName.get(question.value), question.value);
      case "fileContainingSymbol":
        return files(index.bySymbol.get(question.value), question.value);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = question.value;
        const asked = `extension ${extensionNumber} of ${containingType}`;
        return files(index.extensions.get(containingType)?.get(extensionNumber), asked);
      }
      case "allExtensionNumbersOfType": {
        const baseTypeName = question.value;
        if (!index.bySymbol.has(baseTypeName)) return notFound(baseTypeName);
        const extensionNumber = [...(index.extensions.get(baseTypeName)?.keys() ?? [])];
        return {
          case: "allExtensionNumbersResponse",
          value: { $typeName: "grpc.reflection.v1.ExtensionNumberResponse", baseTypeName, extensionNumber },
        };
      }
      case "listServices": {
        const service = services.map(({ typeName }) => ({
          $typeName: "grpc.reflection.v1.ServiceResponse" as const,
          name: typeName,
        }));
        return {
          case: "listServicesResponse",
          value: { $typeName: "grpc.reflection.v1.ListServiceResponse", service },
        };
      }
      default:
        return refusal(INVALID_ARGUMENT, "The request asks for nothing that this server knows.");
    }
  }

  return {
    v1: {
      async *serverReflectionInfo(requests) {
        for await (const originalRequest of requests) {
          const messageResponse = answer(originalRequest.messageRequest);
          yield create(ServerReflectionResponseSchema, {
            validHost: originalRequest.host,
            originalRequest,
            messageResponse,
          });
        }
      },
    },
    v1alpha: {
      async *serverReflectionInfo(requests) {
        for await (const originalRequest of requests) {
          // The two versions differ in their package's name alone.
          const messageResponse = answer(originalRequest.messageRequest as Question) as never;
          yield create(AlphaResponseSchema, { validHost: originalRequest.host, originalRequest, messageResponse });
        }
      },
    },
  };
}

const notFound = (asked: string): Answer => refusal(NOT_FOUND, `This server has no descriptor of "${clip(asked)}".`);

const refusal = (errorCode: number, errorMessage: string): Answer => ({
  case: "errorResponse",
  value: { $typeName: "grpc.reflection.v1.ErrorResponse", errorCode, errorMessage },
});

/** A file and all that it imports, each once: clients need not ask again. */
function encoded(file: DescFile): Uint8Array[] {
  return [...withImports([file])].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
}

function withImports(files: Iterable<DescFile>, seen = new Set<DescFile>()): Set<DescFile> {
  for (const file of files) {
    if (seen.has(file)) continue;
    seen.add(file);
    withImports(file.dependencies, seen);
  }
  return seen;
}

interface FileIndex {
  byName: Map<string, DescFile>;
  bySymbol: Map<string, DescFile>;
  extensions: Map<string, Map<number, DescFile>>;
}

function indexFiles(roots: readonly DescFile[]): FileIndex {
  const index: FileIndex = { byName: new Map(), bySymbol: new Map(), extensions: new Map() };
  for (const file of withImports(roots)) {
    index.byName.set(file.proto.name, file);
    const add = (symbol: string) => index.bySymbol.set(symbol, file);
    const addMessage = (message: DescMessage): void => {
      add(message.typeName);
      for (const field of message.fields) add(`${message.typeName}.${field.name}`);
      for (const oneof of message.oneofs) add(`${message.typeName}.${oneof.name}`);
      for (const nested of message.nestedEnums) add(nested.typeName);
      for (const nested of message.nestedMessages) addMessage(nested);
    };
    file.messages.forEach(addMessage);
    for (const { typeName } of file.enums) add(typeName);
    for (const service of file.services) {
      add(service.typeName);
      for (const method of service.methods) add(`${service.typeName}.${method.name}`);
    }
    for (const extension of file.extensions) {
      add(extension.typeName);
      const numbers = index.extensions.get(extension.extendee.typeName) ?? new Map<number, DescFile>();
      index.extensions.set(extension.extendee.typeName, numbers.set(extension.number, file));
    }
  }
  return index;
}
