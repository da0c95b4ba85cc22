/** A webhook that takes push notifications and answers as a test tells it. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { fromJsonString } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createInbox } from "./inbox.ts";

export interface Post {
  path: string;
  headers: IncomingHttpHeaders;
  body: StreamResponse;
}

/** An HTTP status, or no answer at all. */
export type Answer = number | "silence";

export interface Webhook {
  readonly url: string;
  /** Every post that came, whatever was answered. */
  readonly posts: Post[];
  /** The next post that nobody has waited for. */
  next(): Promise<Post>;
  /** What is answered to the next posts, in their order; 200 to those that follow. */
  answer(...answers: Answer[]): void;
  close(): Promise<void>;
}

export async function startWebhook(): Promise<Webhook> {
  const inbox = createInbox<Post>();
  const posts: Post[] = [];
  const answers: Answer[] = [];
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const post = {
      path: request.url ?? "",
      headers: request.headers,
      body: fromJsonString(StreamResponseSchema, text),
    };
    posts.push(post);
    inbox.put(post);
    const answer = answers.shift() ?? 200;
    if (answer !== "silence") response.writeHead(answer).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    posts,
    next: inbox.next,
    answer: (...given) => void answers.push(...given),
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
