// A form with data-passkey is sent with what the reader's device answers: `create` makes a passkey,
// `get` uses one. The server gave the options, and checks the answer.
const READERS = { create: "parseCreationOptionsFromJSON", get: "parseRequestOptionsFromJSON" };
const MESSAGES = {
  InvalidStateError: "This device has a passkey for your account already.",
  NotAllowedError: "It was cancelled, or took too long. Try again.",
};

async function answer(form) {
  const act = form.dataset.passkey;
  const read = window.PublicKeyCredential?.[READERS[act]];
  if (!read) throw new Error("This browser cannot use passkeys here: it is too old, or the page is not under HTTPS.");
  const publicKey = read.call(PublicKeyCredential, JSON.parse(form.dataset.options));
  return JSON.stringify(await navigator.credentials[act]({ publicKey }));
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const field = form.elements.passkey;
  const problem = form.querySelector("[data-passkey-problem]");
  form.addEventListener("submit", async (event) => {
    if (field.value) return;
    event.preventDefault();
    problem.textContent = "";
    try {
      field.value = await answer(form);
    } catch (error) {
      problem.textContent = MESSAGES[error.name] ?? error.message;
      return;
    }
    form.requestSubmit();
  });
}
