// A photo from the camera of this device.

export function startCamera({ button, dialog, view, shot, close }, take, say) {
  let stream = null;
  if (!navigator.mediaDevices?.getUserMedia) {
    button.hidden = true;
    return;
  }
  const stop = () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = view.srcObject = null;
  };
  button.addEventListener("click", async () => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      say(error.name === "NotFoundError" ? "This device has no camera." : "The camera is not allowed or in use.");
      return;
    }
    view.srcObject = stream;
    dialog.showModal();
  });
  shot.addEventListener("click", async () => {
    const photo = await photoOf(view);
    if (photo) take([photo]);
    dialog.close();
  });
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", stop);
}

let taken = 0;

async function photoOf(view) {
  if (!view.videoWidth) return null;
  const canvas = document.createElement("canvas");
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  canvas.getContext("2d").drawImage(view, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  taken += 1;
  return blob && new File([blob], `camera-${taken}.jpg`, { type: "image/jpeg" });
}
