// A real OpenID provider (oidc-provider, certified) for host/tests/openid.rs, on a free port of the loopback.
//
// Prints one line of JSON, {"issuer": …}, when it listens. Everything is in memory. Log in as anybody, with any password.
// POST /test/rotate gives it a new signing key and withdraws the one before.

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { exportJWK, generateKeyPair } from "jose";
import { Provider } from "oidc-provider";

const AUDIENCE = "https://api.example";
const cookieKeys = [randomBytes(32).toString("hex")];

const callback = "http://shop.example/oauth2/callback";
const common = {
  response_types: ["code"],
  grant_types: ["authorization_code", "refresh_token"],
  redirect_uris: [callback],
  post_logout_redirect_uris: ["http://shop.example/goodbye"],
};
const clients = [
  { ...common, client_id: "shop", client_secret: "a secret: of the+shop" },
  { ...common, client_id: "shop-post", client_secret: "posted", token_endpoint_auth_method: "client_secret_post" },
  { ...common, client_id: "shop-public", token_endpoint_auth_method: "none" },
  {
    client_id: "machine",
    client_secret: "of the machine",
    grant_types: ["client_credentials"],
    response_types: [],
    redirect_uris: [],
  },
];

function configuration(keys) {
  return {
    clients,
    jwks: { keys },
    cookies: { keys: cookieKeys },
    claims: { openid: ["sub"], email: ["email"], groups: ["groups"] },
    scopes: ["openid", "offline_access", "email", "groups"],
    conformIdTokenClaims: false,
    rotateRefreshToken: true,
    issueRefreshToken: async (_, client) => client.grantTypeAllowed("refresh_token"),
    findAccount: async (_, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, email: `${id}@shop.example`, groups: ["staff", "ops"] }),
    }),
    pkce: { required: () => true },
    ttl: { AccessToken: 2, ClientCredentials: 600, IdToken: 600, RefreshToken: 600, Session: 600, Grant: 600, Interaction: 600 },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: async (ctx) => (ctx.oidc.client.clientId === "machine" ? AUDIENCE : undefined),
        getResourceServerInfo: async () => ({
          scope: "read",
          audience: AUDIENCE,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
  };
}

let generation = 0;

async function newKeys() {
  generation += 1;
  const keys = [];
  for (const alg of ["RS256", "ES256"]) {
    const { privateKey } = await generateKeyPair(alg, { extractable: true });
    keys.push({ ...(await exportJWK(privateKey)), alg, use: "sig", kid: `${alg}-${generation}` });
  }
  return keys;
}

let handle;
const server = createServer(async (request, response) => {
  if (request.method === "POST" && request.url === "/test/rotate") {
    await renew();
    response.writeHead(204).end();
    return;
  }
  handle(request, response);
});

async function renew() {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  handle = new Provider(issuer, configuration(await newKeys())).callback();
  return issuer;
}

// Whoever started it holds its standard input, and with that it ends.
process.stdin.on("end", () => process.exit(0)).resume();
server.listen(0, "127.0.0.1", async () => {
  console.log(JSON.stringify({ issuer: await renew() }));
});
