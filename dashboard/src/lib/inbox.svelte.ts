import { type Api, ApiError } from "./api.ts";
import { counted } from "./format.ts";
import { notices } from "./notices.svelte.ts";
import { includes } from "./roles.ts";
import type { AlertAnswer, DeviceRequest, Role } from "./protocol.ts";
import type { Noticed } from "./subscription.ts";

type InboxTable = Exclude<Noticed, "halts" | "halt_agents" | "schedules">;

/** What waits for a person, wherever in the page they are: alerts, and agents that ask to be let in. */
export class Inbox {
  /** Those that nobody has acknowledged. */
  alerts = $state.raw<AlertAnswer[]>([]);
  /** All that the server tells of, those first that wait. */
  allAlerts = $state.raw<AlertAnswer[]>([]);
  requests = $state.raw<DeviceRequest[]>([]);
  readonly waiting = $derived(this.alerts.length + this.requests.length);
  readonly #api: Api;
  #role: Role | undefined;
  /** The latest question about each table: answers to earlier ones are old news. */
  readonly #asked: Record<InboxTable, number> = { alerts: 0, device_requests: 0 };

  constructor(api: Api) {
    this.#api = api;
  }

  /** The role is known, and what happened before then has to be read. */
  open(role: Role | undefined): void {
    this.#role = role;
    void this.read("alerts");
    void this.read("device_requests");
  }

  /** Something has changed. What cannot be read now is read the next time. */
  async read(table: InboxTable): Promise<void> {
    if (this.#role === undefined) return;
    const mine = ++this.#asked[table];
    try {
      if (table === "alerts") {
        const { alerts } = await this.#api.alerts();
        if (mine !== this.#asked[table]) return;
        this.allAlerts = alerts;
        const open = alerts.filter((alert) => alert.acknowledged_at === null);
        const fresh = open.filter((alert) => !this.alerts.some((known) => known.id === alert.id));
        this.alerts = open;
        if (fresh[0] !== undefined) notices.error(fresh[0].text);
      } else if (includes(this.#role, "admin")) {
        const { requests } = await this.#api.deviceRequests();
        if (mine !== this.#asked[table]) return;
        const fresh = requests.filter((request) => !this.requests.some((known) => known.id === request.id));
        this.requests = requests;
        if (fresh.length > 0) notices.info(`${counted(fresh.length, "agent asks", "agents ask")} to be let in.`);
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }
}
