// A client of usmd: a session, its regions, and the faults that bring their pages in. docs/other-languages.md explains
// each step.
import net from "node:net";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const DEFINITION = protoLoader.loadSync(["usm/v1/client.proto", "usm/v1/admin.proto"], {
  includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))],
  keepCase: true, // the names of the fields as the proto files have them
  longs: Number, // all numbers of ClientService and of GetStatus are below 2^53
  enums: String,
  defaults: true,
  arrays: true,
  oneofs: true, // `outcome.outcome` is the name of the field that is set
});
const { ClientService, AdminService } = grpc.loadPackageDefinition(DEFINITION).usm.v1;

// The part of google.rpc.Status that usmd uses: its one detail is an ErrorInfo.
const { Status, ErrorInfo } = protobuf.parse(`
  syntax = "proto3";
  message Detail { string type_url = 1; bytes value = 2; }
  message Status { repeated Detail details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; }
`).root.nested;

/** A call or a fault that failed. `reason` is a FailureReason without its prefix, such as "OUT_OF_MEMORY". */
export class UsmError extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }

  /** The error of a failed call; what gRPC itself reports, such as a lost connection, has the name of its status. */
  static ofCall(error) {
    const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
    const [detail] = details ? Status.decode(details).details : [];
    const reason = detail ? ErrorInfo.decode(detail.value).reason : grpc.status[error.code];
    return new UsmError(reason, error.details);
  }
}

/** Make a unary call. */
function call(stub, method, request, metadata = new grpc.Metadata()) {
  return new Promise((resolve, reject) => {
    stub[method](request, metadata, (error, answer) => (error ? reject(UsmError.ofCall(error)) : resolve(answer)));
  });
}

/** Connect to the identity socket, which proves this process and its user, and read the ticket for Attach. */
function identify(path) {
  return new Promise((resolve, reject) => {
    const socket = net.createConnection(path);
    let line = "";
    socket.setEncoding("ascii");
    socket.on("error", reject);
    socket.on("close", () => reject(new Error(`${path} was closed before it gave a ticket`)));
    socket.on("data", (piece) => {
      line += piece;
      if (!line.endsWith("\n")) return;
      const text = line.trimEnd();
      if (text.startsWith("!")) reject(new UsmError("LIMIT_EXCEEDED", text.slice(1)));
      else resolve({ ticket: text, socket });
    });
  });
}

/** A session. Its regions end with it. */
export class Client {
  #stub;
  #identity;
  #metadata = new grpc.Metadata();
  #stream;
  #faults = new Map(); // what waits for the outcome of a fault, by fault_id
  #lastFault = 0;
  #end = null; // the error with which the session ended

  /** Completions of faults that were answered USM_YIELD first. */
  yields = 0;

  /** Begin a session with the daemon whose socket has this path. */
  static async attach(path, name) {
    const client = new Client();
    client.#identity = await identify(`${path}.identity`); // stays open: usmd ends the session when it closes
    client.#stub = new ClientService(`unix:${path}`, grpc.credentials.createInsecure());
    const { ticket } = client.#identity;
    const shown = new grpc.Metadata();
    shown.set("usm-ticket", ticket);
    try {
      client.session = await call(client.#stub, "Attach", { name, ticket }, shown);
    } catch (error) {
      client.#disconnect();
      throw error;
    }
    client.#metadata.set("usm-session-token", client.session.session_token);
    client.#openStream();
    return client;
  }

  /** Open the session's own stream, as each session must within ten seconds. */
  #openStream() {
    this.#stream = this.#stub.StreamFaults(this.#metadata);
    this.#stream.on("data", ({ outcomes }) => outcomes.forEach((outcome) => this.#take(outcome)));
    this.#stream.on("error", (error) => this.#ended(UsmError.ofCall(error)));
    this.#stream.on("end", () => this.#ended(new UsmError("UNKNOWN_SESSION", "the session has ended")));
  }

  #ended(error) {
    this.#end ??= error;
    for (const { reject } of this.#faults.values()) reject(this.#end);
    this.#faults.clear();
  }

  #take(outcome) {
    if (outcome.outcome === "yielded") return; // the thread may do something else: its completion comes later
    const { resolve, reject } = this.#faults.get(outcome.fault_id);
    this.#faults.delete(outcome.fault_id);
    const { failure, allocated } = outcome;
    if (failure) reject(new UsmError(failure.reason.replace("FAILURE_REASON_", ""), failure.message));
    else {
      if (allocated.yield_token) this.yields += 1;
      resolve();
    }
  }

  /** Bring pages of a region into memory; `pages`: their numbers, ascending, at most max_batch_faults. */
  fault(region_id, pages, write) {
    const faults = pages.map((first_page) => {
      this.#lastFault += 1;
      return { fault_id: this.#lastFault, region_id, first_page, page_count: 1, write };
    });
    const outcomes = faults.map(({ fault_id }) => new Promise((resolve, reject) => {
      if (this.#end) reject(this.#end);
      else this.#faults.set(fault_id, { resolve, reject });
    }));
    if (!this.#end) this.#stream.write({ faults });
    return Promise.all(outcomes);
  }

  /** Make a region of zeros. */
  map(length, name) {
    return this.#call("MapRegion", { length, name });
  }

  /** Say something about a region: `hint` is { text } or { fields }. */
  hint(region_id, hint) {
    return this.#call("HintRegion", { region_id, ...hint });
  }

  /** Read bytes. */
  async load(region_id, offset, length) {
    for (;;) {
      const { data, absent_pages } = await this.#call("Load", { region_id, offset, length });
      if (absent_pages.length === 0) return data;
      await this.fault(region_id, absent_pages, false);
    }
  }

  /** Write bytes. */
  async store(region_id, offset, data) {
    for (;;) {
      const { absent_pages } = await this.#call("Store", { region_id, offset, data });
      if (absent_pages.length === 0) return;
      await this.fault(region_id, absent_pages, true);
    }
  }

  /** End the session, if it has not ended. */
  async close() {
    try {
      if (!this.#end) await this.#call("Detach", {});
    } finally {
      this.#disconnect();
    }
  }

  #disconnect() {
    this.#stub.close();
    this.#identity.socket.destroy();
  }

  #call(method, request) {
    return call(this.#stub, method, request, this.#metadata);
  }
}

/** The state of the daemon, from the operators' socket. */
export async function status(path) {
  const stub = new AdminService(`unix:${path}`, grpc.credentials.createInsecure());
  try {
    return await call(stub, "GetStatus", {});
  } finally {
    stub.close();
  }
}
