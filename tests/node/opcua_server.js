// A foreign OPC UA server for tests: node tests/node/opcua_server.js '{"port": 4840, "pki": "folder"}'
// Says one line {"ready": true} when it listens. Each line on its input is a list, answered by {"done": true}, of
//   {"set": name, "value": ..., "status": 32 bits, "bits": "SemanticChanged", "time": ms since 1970}
//   {"add": name, "type": "Double", "history": true}    with a history in memory
//   {"play": name, "parts": [[{"set": ...}, ...], ...]}    one part after the other, once that node is watched
"use strict";
globalThis.crypto ??= require("crypto").webcrypto; // Debian 12 has Node 18, where it is no global yet
const path = require("path");
const readline = require("readline");
const {
  DataType, OPCUACertificateManager, OPCUAServer, StatusCode, StatusCodes, Variant, VariantArrayType,
} = require("node-opcua");

const given = JSON.parse(process.argv[2]);
const TYPES = { flow: "Double", level: "Double", count: "Int32", on: "Boolean", mode: "Int32", text: "String", list: "Double" };

function variant(name, value) {
  if (value === null) return new Variant({ dataType: DataType.Null });
  const arrayType = Array.isArray(value) ? VariantArrayType.Array : VariantArrayType.Scalar;
  return new Variant({ dataType: DataType[TYPES[name]], arrayType, value });
}

function status(said) {
  const code = Object.values(StatusCodes).find((one) => one.value === (said.status ?? 0));
  return said.bits ? StatusCode.makeStatusCode(code, said.bits) : code;
}

const made = {};
const plays = {};
let space, namespace, folder;

function add(name, type, history) {
  const isList = name === "list";
  TYPES[name] = type;
  made[name] = namespace.addVariable({
    componentOf: folder, browseName: name, nodeId: `s=${name}`, dataType: type, valueRank: isList ? 1 : -1,
    minimumSamplingInterval: 0,
  });
  if (history) space.installHistoricalDataNode(made[name], { maxOnlineValues: 10000 });
  made[name].setValueFromSource(variant(name, { list: [1, 2], text: "a", on: false }[name] ?? 0));
}

function set(one) {
  made[one.set].setValueFromSource(variant(one.set, one.value), status(one), new Date(one.time ?? Date.now()));
}

function play(parts) {
  if (!parts || !parts.length) return;
  setTimeout(() => { parts[0].forEach(set); play(parts.slice(1)); }, 150); // three times the sampling of the tests
}

function obey(said) {
  if (said.add) add(said.add, said.type || "Double", said.history);
  else if (said.play) plays[said.play] = said.parts; // once somebody watches that node
  else set(said);
}

async function main() {
  const manager = new OPCUACertificateManager({
    rootFolder: path.join(given.pki, "own"), automaticallyAcceptUnknownCertificate: true,
  });
  const users = new OPCUACertificateManager({ rootFolder: path.join(given.pki, "users") });
  const server = new OPCUAServer({
    port: given.port,
    host: given.host || "127.0.0.1",
    hostname: given.host || "127.0.0.1",
    serverCertificateManager: manager,
    userCertificateManager: users,
    allowAnonymous: given.anonymous !== false,
    userManager: { isValidUser: (user, password) => user === "mon" && password === "right" },
    serverCapabilities: { maxSessions: 100, operationLimits: { maxMonitoredItemsPerCall: 2 } }, // killed clients leave theirs
  });
  await server.initialize();
  space = server.engine.addressSpace;
  for (const uri of given.namespaces || ["urn:test:plant"]) {
    const one = space.registerNamespace(uri);
    if (uri === "urn:test:plant") namespace = one;
  }
  folder = namespace.addObject({ organizedBy: space.rootFolder.objects, browseName: "plant" });
  for (const [name, type] of Object.entries(TYPES)) add(name, type);
  for (const name of given.nodes || []) { // of a device that has measured nothing yet
    add(name, "Double");
    set({ set: name, value: 0, status: StatusCodes.BadWaitingForInitialData.value });
  }
  server.on("create_session", (session) => session.on("new_subscription", (subscription) =>
    subscription.on("monitoredItem", (item) => {
      const name = String(item.node.nodeId.value);
      play(plays[name]);
      delete plays[name];
    })));
  await server.start();
  console.log(JSON.stringify({ ready: true }));
  readline.createInterface({ input: process.stdin }).on("line", (line) => setTimeout(() => {
    JSON.parse(line).forEach(obey);
    console.log(JSON.stringify({ done: true }));
  }, given.pause_ms || 0)); // a device that writes sooner than it is sampled is not heard: after a freeze, too
}

process.on("SIGTERM", () => process.exit(0));
main().catch((error) => { console.error(error); process.exit(1); });
