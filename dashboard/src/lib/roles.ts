import { ROLES, type Role } from "./protocol.ts";

/** Whether a role includes another: an admin may do everything that an operator may do. */
export function includes(role: Role | undefined, least: Role): boolean {
  return role !== undefined && ROLES.indexOf(role) >= ROLES.indexOf(least);
}
