const api = document.querySelector("meta[name=api]").content;
const aws = document.querySelector("#aws");
const form = document.querySelector("#signup");
const fieldset = form.querySelector("fieldset");
const message = document.querySelector("#message");

// What this page has shown is what it signs up, whatever another tab has brought since.
let registration = null;

function call(method, path, body) {
  return fetch(api + path, {
    method,
    credentials: "include",
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
}

async function start() {
  const response = await call("GET", "/api/registration");
  if (!response.ok) throw new Error(`/api/registration answered ${response.status}`);
  registration = await response.json();
  show();
  // Not before: who is quicker than the answer would get an account without the subscription.
  fieldset.disabled = false;
}

function show() {
  aws.hidden = registration === null;
  // textContent, and never innerHTML: nothing that comes from elsewhere is markup.
  document.querySelector("#account").textContent = registration?.account_ending ?? "";
}

async function signUp(email) {
  const response = await call("POST", "/api/signup", { email, registration_id: registration?.id ?? null });
  switch (response.status) {
    case 201:
      form.hidden = aws.hidden = true;
      return `Welcome, ${email}!`;
    case 401:
      return "This took too long. In AWS Marketplace, choose Set up your account once more.";
    case 409:
      return "This e-mail address or this AWS subscription has an account already. Please log in.";
    case 422:
      return "This is not an e-mail address.";
    default:
      throw new Error(`/api/signup answered ${response.status}`);
  }
}

async function decline() {
  const response = await call("DELETE", `/api/registrations/${registration.id}`);
  if (!response.ok) throw new Error(`declining answered ${response.status}`);
  registration = null;
  show();
  return "You can sign up without it.";
}

async function attempt(action) {
  message.textContent = "";
  try {
    message.textContent = (await action()) ?? "";
  } catch (error) {
    console.error(error);
    message.textContent = "We could not reach our server. Please try again.";
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const email = new FormData(form).get("email"); // empty once the fields are disabled
  fieldset.disabled = true;
  await attempt(() => signUp(email));
  fieldset.disabled = false;
});
document.querySelector("#decline").addEventListener("click", () => attempt(decline));
attempt(start);
