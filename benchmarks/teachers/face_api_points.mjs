// face-api's 68 points: raw RGB crops of 112 px on standard input, float32 points in their pixels on standard output.
// It runs in the folder of `make.sh`, and `face_api_points.py` starts it.
import fs from 'fs';
import { createRequire } from 'module';

const require = createRequire(import.meta.url);
const tf = require('@tensorflow/tfjs');
require('@tensorflow/tfjs-backend-wasm');
const faceapi = require('@vladmandic/face-api/dist/face-api.node-wasm.js');

const SIZE = 112, BATCH = 32, BYTES = SIZE * SIZE * 3, NUMBERS = 2 * 68;
await tf.setBackend('wasm');
await tf.ready();
await faceapi.tf.setBackend('wasm');
await faceapi.tf.ready();
await faceapi.nets.faceLandmark68Net.loadFromDisk('node_modules/@vladmandic/face-api/model');
const crops = fs.readFileSync(0);
const count = crops.length / BYTES;
if (!Number.isInteger(count)) throw new Error(`${crops.length} bytes are no crops of ${SIZE} px`);
const points = new Float32Array(count * NUMBERS);
for (let first = 0; first < count; first += BATCH) {
  const batch = [];
  for (let place = first; place < Math.min(first + BATCH, count); place += 1) {
    batch.push(tf.tensor3d(new Float32Array(crops.subarray(place * BYTES, (place + 1) * BYTES)), [SIZE, SIZE, 3]));
  }
  const answers = [await faceapi.nets.faceLandmark68Net.detectLandmarks(batch)].flat();
  answers.forEach(({ positions }, place) => positions.forEach(({ x, y }, point) => points.set([x, y], (first + place) * NUMBERS + 2 * point)));
  batch.forEach((tensor) => tensor.dispose());
}
fs.writeSync(1, Buffer.from(points.buffer));
