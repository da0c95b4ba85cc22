import type { IncomingHttpHeaders, RequestListener } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { createWebhookSender } from "../../src/outbound/webhook.ts";
import { freePort, startRogueHttp } from "../agents/rogue-agent.ts";

let cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

function sender(allowPrivateUrls = true) {
  const made = createWebhookSender({ allowPrivateUrls });
  cleanUp.push(() => made.close());
  return made;
}

async function serve(listener: RequestListener) {
  const server = await startRogueHttp(listener);
  cleanUp.push(() => server.close());
  return { url: `http://127.0.0.1:${server.port}/hook`, server };
}

const patiently = { signal: new AbortController().signal, timeoutMs: 5000 };

describe("createWebhookSender", () => {
  test("posts the body with its headers", async () => {
    const received: { method: string | undefined; headers: IncomingHttpHeaders; body: string }[] = [];
    const { url } = await serve(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      received.push({ method: request.method, headers: request.headers, body });
      response.writeHead(204).end();
    });
    await sender().post(url, '{"task":{}}', { authorization: "Bearer x", "x-a2a-notification-token": "t" }, patiently);
    expect(received).toMatchObject([
      {
        method: "POST",
        body: '{"task":{}}',
        headers: { "content-type": "application/a2a+json", authorization: "Bearer x", "x-a2a-notification-token": "t" },
      },
    ]);
  });

  test.each([307, 404, 500])("HTTP %d is a failure", async (status) => {
    let asked = 0;
    const { url } = await serve((_request, response) => {
      asked++;
      response.writeHead(status, { location: "/elsewhere" }).end("no");
    });
    await expect(sender().post(url, "{}", {}, patiently)).rejects.toMatchObject({
      reason: "WEBHOOK_FAILED",
      message: `The webhook answered HTTP ${status}.`,
    });
    expect(asked).toBe(1);
  });

  test("an answer without end is not read", async () => {
    const { url, server } = await serve((_request, response) => {
      const pour = () => {
        while (!response.destroyed && response.write("x".repeat(16 * 1024)));
      };
      response.on("drain", pour);
      pour();
    });
    await sender().post(url, "{}", {}, patiently);
    await server.idle();
  });

  test("silence, a closed port and the signal are failures", async () => {
    const { url } = await serve(() => {});
    await expect(sender().post(url, "{}", {}, { ...patiently, timeoutMs: 50 })).rejects.toMatchObject({
      message: "The webhook did not answer within 50 ms.",
    });
    await expect(sender().post(`http://127.0.0.1:${await freePort()}/`, "{}", {}, patiently)).rejects.toMatchObject({
      reason: "WEBHOOK_FAILED",
    });
    const controller = new AbortController();
    const posted = sender().post(url, "{}", {}, { ...patiently, signal: controller.signal });
    controller.abort();
    await expect(posted).rejects.toBe(controller.signal.reason);
  });

  test("refuses addresses that are not allowed", async () => {
    const strict = sender(false);
    for (const url of ["http://127.0.0.1/", "http://localhost/", "ftp://example.com/"]) {
      const refusal = { code: "INVALID_ARGUMENT", violations: [{ field: "url" }] };
      await expect(strict.check(url)).rejects.toMatchObject(refusal);
      await expect(strict.post(url, "{}", {}, patiently)).rejects.toMatchObject(refusal);
    }
    await strict.check("https://nobody.invalid/");
    await sender().check("http://127.0.0.1/");
  });
});
