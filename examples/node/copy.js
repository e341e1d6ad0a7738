// Copy a file through memory that usmd manages: every byte is stored in a region, and loaded from it again.
import { readFile, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { Client, UsmError, status } from "./usm.js";

const USAGE = "usage: node copy.js SOURCE TARGET [--address PATH] [--admin PATH] [--hint TEXT]";
const PAGES_A_CALL = 16;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { address: { type: "string" }, admin: { type: "string" }, hint: { type: "string" } },
});
if (positionals.length !== 2) {
  console.error(USAGE);
  process.exit(2);
}
const [source, target] = positionals;
const socketPath = (address) => address.replace(/^unix:/, "");
const address = socketPath(values.address ?? process.env.USM_ADDRESS ?? "/run/usmd/usmd.sock");

/** Store all bytes in a region of the client, and load them again. */
async function through(client, bytes) {
  const { page_size, max_transfer_bytes } = client.session;
  const region = await client.map(bytes.length, "file");
  const hint = values.hint === undefined ? { fields: { priority: "PRIORITY_HIGH" } } : { text: values.hint };
  const { page_count } = await client.hint(region.region_id, hint);
  console.log(`hint on ${page_count} pages`);

  const step = Math.min(PAGES_A_CALL * page_size, max_transfer_bytes);
  for (let offset = 0; offset < bytes.length; offset += step) {
    await client.store(region.region_id, offset, bytes.subarray(offset, offset + step));
  }
  const copy = [];
  for (let offset = 0; offset < bytes.length; offset += step) {
    copy.push(await client.load(region.region_id, offset, Math.min(step, bytes.length - offset)));
  }
  return copy;
}

try {
  const client = await Client.attach(address, "node-copy");
  const { process_id, mechanism, page_size } = client.session;
  console.log(`attached as process ${process_id}: ${mechanism} memory in pages of ${page_size} bytes`);
  try {
    const bytes = await readFile(source);
    await writeFile(target, await through(client, bytes));
    console.log(`copied ${bytes.length} bytes; ${client.yields} faults yielded`);
    if (values.admin !== undefined) {
      const { version, frames, free_frames, counters } = await status(socketPath(values.admin));
      console.log(`usmd ${version}: ${free_frames} of ${frames} frames are free, ${counters.swap_outs} pages went to swap`);
    }
  } finally {
    await client.close();
  }
} catch (error) {
  console.error(error instanceof UsmError ? `${error.reason}: ${error.message}` : error.message);
  process.exitCode = 1;
}
