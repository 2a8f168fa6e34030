import { fileURLToPath } from "node:url";
import { fileSettings } from "../../config/sources.js";
import { checkHardware, type HardwareProfile } from "./hardware.js";

/** Reads a profile: by the name of one in config/hardware (`a800-7b`), or the path of a YAML file. Throws `config_invalid`. */
export function loadHardware(nameOrPath: string): HardwareProfile {
  const file = /^[\w-]+$/.test(nameOrPath)
    ? fileURLToPath(new URL(`../../../config/hardware/${nameOrPath}.yaml`, import.meta.url))
    : nameOrPath;
  return checkHardware(fileSettings(file).values, file);
}
