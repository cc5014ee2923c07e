// Lets requests of known teams pass. The configuration is {"header": "x-team", "teams": ["red", "blue"]}: a request whose header
// names none of them is answered with 403; the upstream and the client of another are told the team.

import { write } from 'tidegate:filter/log@0.1.0';

const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (string) => new TextEncoder().encode(string);

// By the number of the plugin: Filters of one namespace may share this component.
const configurations = new Map();
// Teams of the exchanges under way, by number.
const teams = new Map();

export const onPlugin = {
  configure(plugin) {
    let parsed;
    try {
      parsed = JSON.parse(text(plugin.configuration()) || '{}');
    } catch (error) {
      throw `the configuration is not JSON: ${error.message}`;
    }
    if (!Array.isArray(parsed.teams) || parsed.teams.length === 0) {
      throw 'field `teams`: name at least one team';
    }
    configurations.set(plugin.id(), { header: parsed.header ?? 'x-team', teams: new Set(parsed.teams) });
  },

  remove(id) {
    configurations.delete(id);
  },
};

export const onRequest = {
  headers(exchange, _endOfStream) {
    const configuration = configurations.get(exchange.plugin().id());
    const value = exchange.header('request-headers', configuration.header);
    const team = value === undefined ? '' : text(value);
    if (!configuration.teams.has(team)) {
      write('info', `refused: ${team || 'no team'}`);
      const headers = [{ name: 'content-type', value: bytes('application/json') }];
      exchange.reply(403, 'unknown_team', headers, bytes('{"error":"unknown team"}'), undefined);
      return 'pause';
    }
    teams.set(exchange.id(), team);
    exchange.setHeader('request-headers', 'x-team-known', bytes('yes'));
    return 'continue';
  },
};

export const onResponse = {
  headers(exchange, _endOfStream) {
    const team = teams.get(exchange.id());
    if (team !== undefined) {
      exchange.setHeader('response-headers', 'x-served-team', bytes(team));
    }
    return 'continue';
  },
};

export const onEnd = {
  end(id) {
    teams.delete(id);
  },
};
