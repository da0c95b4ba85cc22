/** Reads an event stream, as the HTML standard says, as far as this server uses it. */
export interface ServerSentEvent {
  /** "message" unless the stream says otherwise. */
  event: string;
  data: string;
  /** What a client sends back as Last-Event-ID; empty when the event says none. */
  id: string;
}

export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerSentEvent, void> {
  let text = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)) {
    text += piece;
    const blocks = text.split("\n\n");
    text = blocks.pop()!;
    for (const block of blocks) {
      const lines = block.split("\n").map((line) => /^(\w*): ?(.*)$/.exec(line) ?? []);
      const data = lines.filter(([, field]) => field === "data").map(([, , value]) => value);
      const event = lines.find(([, field]) => field === "event")?.[2] ?? "message";
      const id = lines.find(([, field]) => field === "id")?.[2] ?? "";
      if (data.length > 0) yield { event, data: data.join("\n"), id };
    }
  }
  if (text !== "") throw new Error(`the stream ends in the middle of an event: ${text}`);
}
