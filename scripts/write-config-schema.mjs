/** Writes config/schema.json from the compiled schema: `npm run schema`, after a change of src/config/schema.ts. */
import { writeFileSync } from "node:fs";
import { configJsonSchema } from "../dist/config/keys.js";

const file = new URL("../config/schema.json", import.meta.url);
writeFileSync(file, `${JSON.stringify(configJsonSchema(), null, 2)}\n`);
