// Runs a model of `iccld export --format onnx` in the browser, with onnxruntime-web (the global `ort`).

/** Opens a model: a URL, or the bytes of an .onnx file. */
export async function load(model) {
  return ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

/**
 * Segments an image.
 *
 * @param session result of `load`
 * @param {ImageData} image RGBA pixels of any size from 33×33; alpha is ignored
 * @returns {{width, height, labels: Uint8Array, uncertainty: Float32Array}} class index, and entropy in nats, per pixel
 */
export async function segment(session, image) {
  const { width, height, data } = image;
  const rgb = new Uint8Array(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    rgb.set(data.subarray(4 * pixel, 4 * pixel + 3), 3 * pixel);
  }
  const images = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const { labels, uncertainty } = await session.run({ images }, ["labels", "uncertainty"]);
  return { width, height, labels: labels.data, uncertainty: uncertainty.data };
}

/** Paints labels over an image. `palette` lists an RGB color for each class. */
export function paint(context, image, labels, palette, opacity = 0.55) {
  const shown = new ImageData(new Uint8ClampedArray(image.data), image.width, image.height);
  labels.forEach((label, pixel) => {
    const color = palette[label] ?? [0, 0, 0];
    for (let channel = 0; channel < 3; channel++) {
      const place = 4 * pixel + channel;
      shown.data[place] = (1 - opacity) * shown.data[place] + opacity * color[channel];
    }
  });
  context.canvas.width = image.width;
  context.canvas.height = image.height;
  context.putImageData(shown, 0, 0);
}

/** Returns the pixels of an image file. */
export async function pixels(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
