// node build.mjs SOURCE WIT OUT: makes a file of JavaScript a component for the world `head-filter` of the folder WIT.

import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [sourcePath, witPath, out] = process.argv.slice(2);
// A filter has no sockets; without these the component does not ask for any.
const disableFeatures = ['http', 'fetch-event'];
const { component } = await componentize({ sourcePath, witPath, worldName: 'head-filter', disableFeatures });
await writeFile(out, component);
