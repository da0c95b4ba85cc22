/** The comments of proto files, by the full names of what they stand above. */
import type { FileDescriptorProto } from "@bufbuild/protobuf/wkt";

// Numbers of fields of descriptor.proto, of which the paths of source locations are made.
const MESSAGES = 4;
const ENUMS = 5;
const SERVICES = 6;
const FIELDS = 2;
const VALUES = 2;
const METHODS = 2;

/** `signalbox.v1.Task.task_id` and so on; what has no comment is left out. */
export function commentsOf(file: FileDescriptorProto): Map<string, string> {
  const told = new Map(
    (file.sourceCodeInfo?.location ?? []).map(
      ({ path, leadingComments }) => [path.join("."), leadingComments] as const,
    ),
  );
  const comments = new Map<string, string>();
  const take = (name: string, ...path: number[]) => {
    const text = told.get(path.join("."));
    if (text) comments.set(name, flowing(text));
  };
  for (const [m, message] of file.messageType.entries()) {
    const name = `${file.package}.${message.name}`;
    take(name, MESSAGES, m);
    for (const [f, field] of message.field.entries()) take(`${name}.${field.name}`, MESSAGES, m, FIELDS, f);
  }
  for (const [e, each] of file.enumType.entries()) {
    const name = `${file.package}.${each.name}`;
    take(name, ENUMS, e);
    for (const [v, value] of each.value.entries()) take(`${name}.${value.name}`, ENUMS, e, VALUES, v);
  }
  for (const [s, service] of file.service.entries()) {
    const name = `${file.package}.${service.name}`;
    take(name, SERVICES, s);
    for (const [m, method] of service.method.entries()) take(`${name}.${method.name}`, SERVICES, s, METHODS, m);
  }
  return comments;
}

/** Paragraphs of one line each: how the lines are broken is the file's, not the text's. */
const flowing = (text: string): string =>
  text
    .trim()
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/\s*\n\s*/g, " ").trim())
    .join("\n\n");
