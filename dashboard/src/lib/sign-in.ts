import { isAuthRetryableFetchError, type AuthError, type Factor, type Provider } from "@supabase/auth-js";

import type { Auth } from "./session.ts";

const PLACE_KEY = "onsembl-place";

/** Keeps the place that the address names, while a link or a provider leads back to the page without it. */
function keepPlace(): void {
  try {
    localStorage.setItem(PLACE_KEY, location.hash);
  } catch {
    // The browser denies storage: the fleet is shown after the sign-in.
  }
}

/** Goes to the place that was kept before the person left to sign in. */
export function returnToPlace(): void {
  try {
    const place = localStorage.getItem(PLACE_KEY);
    localStorage.removeItem(PLACE_KEY);
    if (place?.startsWith("#/")) location.replace(place);
  } catch {
    // The browser denies storage: nothing was kept.
  }
}

/** Signs in; returns null on success, else a message for the person. So do all functions here. */
export async function signIn(auth: Auth, email: string, password: string): Promise<string | null> {
  return refusal((await auth.signInWithPassword({ email, password })).error);
}

/** Has a link sent to an operator, which signs in. */
export async function sendLink(auth: Auth, email: string): Promise<string | null> {
  keepPlace();
  const options = { shouldCreateUser: false, emailRedirectTo: location.origin };
  return refusal((await auth.signInWithOtp({ email, options })).error);
}

/** Has a link sent to an operator, which leads to the form for a new password. */
export async function sendReset(auth: Auth, email: string): Promise<string | null> {
  return refusal((await auth.resetPasswordForEmail(email, { redirectTo: location.origin })).error);
}

/** Leaves for an OAuth provider, which leads back. */
export async function signInWith(auth: Auth, provider: string): Promise<string | null> {
  keepPlace();
  const options = { redirectTo: location.origin };
  return refusal((await auth.signInWithOAuth({ provider: provider as Provider, options })).error);
}

/** Proves the second factor of the session's account. */
export async function enterCode(auth: Auth, factor: Factor, code: string): Promise<string | null> {
  return refusal((await auth.mfa.challengeAndVerify({ factorId: factor.id, code })).error);
}

/** Sets the password of the session's account. */
export async function setPassword(auth: Auth, password: string): Promise<string | null> {
  return refusal((await auth.updateUser({ password })).error);
}

const REFUSALS: Record<string, string> = {
  invalid_credentials: "This e-mail and password do not match.",
  over_request_rate_limit: "Too many attempts. Wait a minute, then try again.",
  over_email_send_rate_limit: "A link was sent a moment ago. Wait a minute, then try again.",
  otp_disabled: "There is no account with this e-mail address.",
  user_banned: "This account is disabled.",
  email_not_confirmed: "This e-mail address has not been confirmed yet.",
  mfa_verification_failed: "This code is not valid. Enter the one that the app shows now.",
  mfa_challenge_expired: "That took too long. Enter the code that the app shows now.",
  same_password: "This is the present password. Choose another one.",
  session_not_found: "The link has expired. Ask for a new one.",
  otp_expired: "The link has expired or was used before. Ask for a new one.",
  flow_state_not_found: "The link has expired or was used before. Ask for a new one.",
  flow_state_expired: "The link has expired or was used before. Ask for a new one.",
  bad_code_verifier: "The link was asked for in another browser. Ask for a new one here.",
};

function refusal(error: AuthError | null): string | null {
  if (error === null) return null;
  if (isAuthRetryableFetchError(error)) return "The sign-in service cannot be reached. Try again in a moment.";
  return REFUSALS[error.code ?? ""] ?? error.message;
}

const MAX_MESSAGE = 300;

/** The message of an error with which a link or a provider led back to the page; null if the address has none. */
export function errorIn(address: URL): string | null {
  const fragment = new URLSearchParams(address.hash.slice(1));
  const named = (name: string) => address.searchParams.get(name) ?? fragment.get(name);
  if (named("access_token") !== null) return "This link does not work here. Ask for a new one on this page.";
  const code = named("error_code") ?? named("error");
  if (code === null) return null;
  const description = named("error_description")?.slice(0, MAX_MESSAGE);
  return REFUSALS[code] ?? `The sign-in did not succeed: ${description ?? code.slice(0, MAX_MESSAGE)}`;
}

/** The message for a code in the address that led to no session, with the error of its exchange, if it was exchanged. */
export function codeRefused(error: AuthError | null): string {
  return refusal(error) ?? "The sign-in was begun in another browser. Begin it again here.";
}
