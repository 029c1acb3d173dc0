import { type Api, ApiError } from "./api.ts";
import { counted } from "./format.ts";
import { notices } from "./notices.svelte.ts";
import { includes } from "./roles.ts";
import type { Role } from "./protocol.ts";
import type { AlertAnswer, DeviceRequest } from "./rest.ts";
import type { RereadTable } from "./subscription.ts";

type InboxTable = Extract<RereadTable, "alerts" | "device_requests">;

/** What else waits for a person beside the requests of agents: open alerts, and devices that wait for approval. */
export class Inbox {
  /** Alerts that nobody has acknowledged. */
  alerts = $state.raw<AlertAnswer[]>([]);
  /** Every alert that the server returns, open ones first. */
  allAlerts = $state.raw<AlertAnswer[]>([]);
  devices = $state.raw<DeviceRequest[]>([]);
  readonly waiting = $derived(this.alerts.length + this.devices.length);
  readonly #api: Api;
  #role: Role | undefined;
  /** The number of the latest request for each table: answers to earlier requests are ignored. */
  readonly #requested: Record<InboxTable, number> = { alerts: 0, device_requests: 0 };

  constructor(api: Api) {
    this.#api = api;
  }

  /** Reads both tables, once the person's role is known and after each reconnect. */
  open(role: Role | undefined): void {
    this.#role = role;
    void this.read("alerts");
    void this.read("device_requests");
  }

  /** Reads a table that has changed. A request that fails is not repeated: the next change or reconnect reads again. */
  async read(table: InboxTable): Promise<void> {
    if (this.#role === undefined) return;
    const mine = ++this.#requested[table];
    try {
      if (table === "alerts") {
        const { alerts } = await this.#api.get("/v1/alerts");
        if (mine !== this.#requested[table]) return;
        this.allAlerts = alerts;
        const open = alerts.filter((alert) => alert.acknowledged_at === null);
        const fresh = open.filter((alert) => !this.alerts.some((known) => known.id === alert.id));
        this.alerts = open;
        if (fresh[0] !== undefined) notices.error(fresh[0].text);
      } else if (includes(this.#role, "admin")) {
        const { requests } = await this.#api.get("/v1/device/requests");
        if (mine !== this.#requested[table]) return;
        const fresh = requests.filter((request) => !this.devices.some((known) => known.id === request.id));
        this.devices = requests;
        if (fresh.length > 0) notices.info(`${counted(fresh.length, "agent waits", "agents wait")} for approval.`);
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }
}
