import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

/** The command as it is typed: what it prints, where, and the status it ends with. */

const CLI = fileURLToPath(new URL("../dist/bundle/main.js", import.meta.url));

function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [CLI, ...args], { env: { ...process.env, ...env } });
}

async function ended(child: ChildProcessWithoutNullStreams, input: string | Buffer = "") {
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  child.stdin.end(input);
  const [status] = await once(child, "close");
  return { status, stdout, stderr };
}

const streamserve = (...args: readonly string[]) => ended(start(args));

/** A server under way, and the address its ready line names. */
async function serving(...args: readonly string[]) {
  const child = start(["serve", "--port", "0", ...args]);
  for await (const line of createInterface({ input: child.stdout })) {
    const url = /^(http:\/\/\S+) is ready: /.exec(line)?.[1];
    if (url !== undefined) return { child, url, line };
  }
  throw new Error("it ended before it was ready");
}

describe("help", () => {
  test.each(["serve", "run", "pull"])("%s --help has its options and examples", async (command) => {
    const { status, stdout } = await streamserve(command, "--help");
    expect(status).toBe(0);
    expect(stdout).toMatch(/Options:[\s\S]*Examples:\n {2}\$ streamserve /);
  });

  test("bench --help is the bench's own", async () => {
    expect(await streamserve("bench", "--help")).toMatchObject({
      status: 0,
      stdout: expect.stringContaining("Usage: bench"),
    });
  });
});

describe("a mistake", () => {
  test.each([
    [["serve", "--prot", "1"], 2, /unknown option '--prot'\n\(Did you mean --port\?\)/],
    [["sreve"], 2, /unknown command 'sreve'/],
    [["run", "x", "--max-tokens", "many"], 2, /it must be a number/],
    [["serve", "--set", "engine"], 2, /write it as key=value/],
    [["serve", "--port", "web"], 1, /^config_invalid: "server\.port" \(the option --port\)/],
    [["serve", "--set", "engine.kvTokns=1"], 1, /^config_unknown_key: .*did you mean "kvTokens"/],
    [
      ["run", "x", "--config", "nowhere.yaml"],
      1,
      /^config_invalid: There is no configuration file nowhere\.yaml/,
    ],
    [["serve", "--set", "__proto__.port=1"], 1, /^config_unknown_key: /],
    [["run", "x", "--threads", "100000"], 1, /^config_invalid: .*threads/],
    [["run", "  "], 1, /^empty_prompt: /],
    [["run", "x", "--model", "nowhere.gguf"], 1, /^model_not_found: /],
    [["serve", "--port", "0", "--model", CLI.replace("main.js", "none/")], 1, /^model_not_found: /],
    [["serve", "--port", "0", "--host", "0.0.0.0"], 1, /^config_invalid: /],
  ])("%j is answered in a line", async (args, status, message) => {
    const outcome = await streamserve(...args);
    expect(outcome.stderr).toMatch(message);
    expect(outcome.stderr).not.toMatch(/^ {4}at /m);
    expect(outcome).toMatchObject({ status, stdout: "" });
  });

  test("a port in use is named", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const address = other.address();
    const port = address !== null && typeof address === "object" ? address.port : 0;
    const { status, stderr } = await streamserve("serve", "--port", String(port));
    other.close();
    expect(status).toBe(1);
    expect(stderr).toMatch(new RegExp(`^port_in_use: Port ${port} `));
  });
});

test("a user without a home is told where models could go, and nothing is written where it stands", async () => {
  // Empty is what a home is that HOME does not name and the system does not know.
  const { status, stderr } = await ended(
    start(["run", "hi"], { HOME: "", XDG_CACHE_HOME: "", STREAMSERVE_MODELS: "" }),
  );
  expect(status).toBe(1);
  expect(stderr).toMatch(/^config_invalid: This user has no home directory: set XDG_CACHE_HOME /);
});

describe("serve", () => {
  test("says nothing of clients that are cut while they send: that is no fault of the server", async () => {
    const { child, url } = await serving();
    let said = "";
    child.stderr.on("data", (chunk) => {
      said += chunk;
    });
    const { hostname, port } = new URL(url);
    for (const cut of ["destroy", "resetAndDestroy"] as const) {
      const socket = connect(Number(port), hostname);
      const head =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 100";
      socket.write(`${head}\r\nContent-Type: application/json\r\n\r\n{"prompt`);
      // Told to go on: its body is being read.
      await once(socket, "data");
      socket[cut]();
      await once(socket, "close");
    }
    await fetch(`${url}/health`);
    child.kill("SIGTERM");
    await once(child, "exit");
    expect(said).not.toContain("failed inside");
  });

  test("tells what it runs on, answers, and ends well on a signal", async () => {
    const { child, url, line } = await serving("--threads", "1", "--set", "engine.kvTokens=2048");
    expect(line).toMatch(
      /: smollm2-135m-instruct, [\w-]+, 1 thread \(\d+ nodes?, [^()]+\), 1 pair, 2048 tokens of KV, context \d+; [\d.]+ s from start$/,
    );
    const body = JSON.stringify({
      model: "smollm2-135m-instruct",
      messages: [{ role: "user", content: "Hi" }],
      max_tokens: 4,
    });
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ usage: { completion_tokens: expect.any(Number) } });
    for (const path of ["/", "/app/viewer.css", "/app/uplot.js", "/app/viewer/main.js", "/app/errors.js"]) {
      expect(await fetch(`${url}${path}`), path).toMatchObject({ status: 200 });
    }
    child.kill("SIGTERM");
    expect(await once(child, "close")).toEqual([0, null]);
  });
});

describe("run", () => {
  const greedy = ["--temperature", "0", "--max-tokens", "12"];

  test("answers a prompt, and the same prompt on standard input alike", async () => {
    const argument = await streamserve("run", "Name three colours.", ...greedy, "--stats");
    expect(argument.status).toBe(0);
    expect(argument.stdout.trim()).not.toBe("");
    expect(argument.stderr).toMatch(
      /\d+ prompt tokens \(\d+ cached\), \d+ output tokens; first after \d+ ms/,
    );
    const piped = await ended(start(["run", ...greedy]), "Name three colours.");
    expect(piped).toEqual({ status: 0, stdout: argument.stdout, stderr: "" });
  });

  test.each([
    ["that is not UTF-8", Buffer.from([0x63, 0xe9]), /^invalid_utf8: /],
    ["that is empty", "", /^empty_prompt: /],
    ["of ten megabytes", Buffer.alloc(10 << 20, "a"), /^body_too_large: .*4194304/],
  ])("a prompt on standard input %s is refused in a line", async (_what, input, message) => {
    const child = start(["run", ...greedy]);
    // It stops reading once it has seen too much.
    child.stdin.on("error", () => {});
    expect(await ended(child, input)).toMatchObject({
      status: 1,
      stdout: "",
      stderr: expect.stringMatching(message),
    });
  });

  test("ends without a word when nobody reads on, as under `| head`", async () => {
    const child = start(["run", "Tell me a story.", "--max-tokens", "2000", "--temperature", "0"]);
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    await once(child.stdout, "data");
    child.stdout.destroy();
    expect(await once(child, "close")).toEqual([0, null]);
    expect(stderr).toBe("");
  });

  test("a prompt with no words for the model is refused in a line", async () => {
    expect(await streamserve("run", "\u0004")).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^invalid_parameter: /),
    });
  });

  test("chats on a terminal: answers, and leaves on /exit", async () => {
    const terminal = chatting(...greedy, "--stats");
    await terminal.prompted(1);
    terminal.type("Name three colours.\n");
    await terminal.prompted(2);
    terminal.type("/nonsense\n");
    await terminal.prompted(3);
    terminal.type("/exit\n");
    expect(await terminal.closed).toEqual([0, null]);
    expect(terminal.shown()).toContain("Chatting with smollm2-135m-instruct");
    expect(terminal.shown()).toMatch(/\d+ output tokens; first after/);
    expect(terminal.shown()).toContain("There are /clear and /exit.");
  });

  test("Ctrl-C stops an answer and not the chat", async () => {
    const terminal = chatting("--temperature", "0", "--max-tokens", "4000", "--stats");
    await terminal.prompted(1);
    terminal.type("Count from one to one thousand.\n");
    await terminal.showing(/thousand\.\s+\w/);
    terminal.type("\u0003");
    await terminal.prompted(2);
    terminal.type("/exit\n");
    expect(await terminal.closed).toEqual([0, null]);
    // An answer that came to its end has its figures told.
    expect(terminal.shown()).not.toContain("output tokens;");
  });
});

/** A chat on a pseudo-terminal, which Python can open and Node can't. */
function chatting(...args: readonly string[]) {
  const script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
  const child = spawn("python3", ["-c", script, process.execPath, CLI, "run", ...args], {
    env: { ...process.env, TERM: "dumb" },
  });
  let shown = "";
  child.stdout.on("data", (chunk) => {
    shown += chunk;
  });
  const showing = (pattern: RegExp) =>
    new Promise<void>((resolve) => {
      const look = () => pattern.test(shown) && resolve();
      child.stdout.on("data", look);
      look();
    });
  return {
    closed: once(child, "close"),
    shown: () => shown,
    showing,
    /** Resolves when the prompt has been shown so many times. */
    prompted: (times: number) => showing(new RegExp(`(?:[^]*?> ){${times}}`)),
    type: (text: string) => child.stdin.write(text),
  };
}
