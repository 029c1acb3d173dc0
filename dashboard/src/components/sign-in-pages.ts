/** The pages of signing in, which are loaded together. */
export { default as NewPassword } from "./NewPassword.svelte";
export { default as SecondFactor } from "./SecondFactor.svelte";
export { default as SignIn } from "./SignIn.svelte";
