"""Lets requests of known teams pass.

The configuration is {"header": "x-team", "teams": ["red", "blue"]}: a request whose header names none of them is answered with
403; the upstream and the client of another are told the team.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log
from wit_world.imports.http import Exchange, HeaderMap, Plugin
from wit_world.imports.types import Action, Field

# By the number of the plugin: Filters of one namespace may share this component.
CONFIGURATIONS: dict[int, tuple[str, list[str]]] = {}
# Teams of the exchanges under way, by number.
TEAMS: dict[int, str] = {}


class OnPlugin(exports.OnPlugin):
    def configure(self, plugin: Plugin) -> None:
        try:
            parsed = json.loads(plugin.configuration() or b"{}")
        except ValueError as error:
            raise Err(f"the configuration is not JSON: {error}") from error
        teams = parsed.get("teams")
        if not isinstance(teams, list) or not teams:
            raise Err("field `teams`: name at least one team")
        CONFIGURATIONS[plugin.id()] = (parsed.get("header", "x-team"), teams)

    def remove(self, id: int) -> None:
        CONFIGURATIONS.pop(id, None)


class OnRequest(exports.OnRequest):
    def headers(self, exchange: Exchange, end_of_stream: bool) -> Action:
        header, teams = CONFIGURATIONS[exchange.plugin().id()]
        value = exchange.header(HeaderMap.REQUEST_HEADERS, header)
        team = (value or b"").decode()
        if team not in teams:
            log.write(log.Level.INFO, f"refused: {team or 'no team'}")
            headers = [Field("content-type", b"application/json")]
            exchange.reply(403, "unknown_team", headers, b'{"error":"unknown team"}', None)
            return Action.PAUSE
        TEAMS[exchange.id()] = team
        exchange.set_header(HeaderMap.REQUEST_HEADERS, "x-team-known", b"yes")
        return Action.CONTINUE


class OnResponse(exports.OnResponse):
    def headers(self, exchange: Exchange, end_of_stream: bool) -> Action:
        team = TEAMS.get(exchange.id())
        if team is not None:
            exchange.set_header(HeaderMap.RESPONSE_HEADERS, "x-served-team", team.encode())
        return Action.CONTINUE


class OnEnd(exports.OnEnd):
    def end(self, id: int) -> None:
        TEAMS.pop(id, None)
