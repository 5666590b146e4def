// The camera as a row of pictures, each taken when the one before it has been dealt with.

/** Why there can be no camera here, or null. */
export function whyNoCamera() {
  if (!window.isSecureContext) return "The camera needs this page over HTTPS (or on localhost).";
  if (!navigator.mediaDevices?.getUserMedia) return "This browser gives pages no camera.";
  return null;
}

export class Camera {
  #stream = null;
  #video;

  constructor(video) {
    this.#video = video;
  }

  get isOn() {
    return this.#stream !== null;
  }

  /** Whether the image shows the person in front of the screen, who expects a mirror. */
  get facesUser() {
    return this.#stream?.getVideoTracks()[0].getSettings().facingMode !== "environment";
  }

  /** Open the camera; throws an Error whose message is meant for the reader. */
  async start() {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 } }, audio: false });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The camera cannot be opened: ${error.message}.`, { cause: error });
    }
    this.#stream = stream;
    this.#video.srcObject = stream;
    await this.#video.play();
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#video.srcObject = null;
  }

  /** Take one image: what to show and the same pixels as a JPEG. */
  async take() {
    const canvas = document.createElement("canvas");
    canvas.width = this.#video.videoWidth;
    canvas.height = this.#video.videoHeight;
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    const jpeg = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
    return { picture: canvas, jpeg };
  }
}

const REASONS = {
  NotAllowedError: "The browser was not allowed to use the camera: allow it for this page and try again.",
  NotFoundError: "There is no camera on this device.",
  NotReadableError: "The camera is in use by another program.",
};
