/**
 * Runs a bundled program with the code that V8 compiled for it when it was built, so that no start compiles it anew.
 * Where this V8 or its flags are others, it compiles, and a start's timings say so.
 *   node load.js NAME...: compiles programs, and keeps their code.
 */
const { readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");
const vm = require("node:vm");

function load(name) {
  const filename = join(__dirname, `${name}.bundle.js`);
  const kept = code(name);
  // esbuild writes ASCII alone.
  const source = `(function (exports, require, module, __filename, __dirname, importOfBundle) {${readFileSync(filename, "latin1")}\n})`;
  const script = new vm.Script(source, { filename, cachedData: kept });
  if (kept === undefined || script.cachedDataRejected) performance.mark("streamserve start: code compiled");
  const module = { exports: {} };
  // Code that was kept can't import: Node 20 forgets on whose behalf.
  const importHere = (specifier) => import(specifier);
  script.runInThisContext()(module.exports, require, module, filename, __dirname, importHere);
  return { script, program: module.exports };
}

function code(name) {
  try {
    return readFileSync(join(__dirname, `${name}.code`));
  } catch {
    return undefined;
  }
}

exports.run = (name) => load(name).program.main();

if (require.main === module) {
  void (async () => {
    for (const name of process.argv.slice(2)) {
      const { script, program } = load(name);
      await program.start();
      writeFileSync(join(__dirname, `${name}.code`), script.createCachedData());
    }
  })();
}
