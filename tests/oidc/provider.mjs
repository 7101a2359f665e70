// A real OpenID provider for tests/oidc.rs. Whoever comes is signed in as they ask with ?as=NAME; POST /test says what is wrong with the
// tokens from then on, which are then signed again with a key of the provider. Prints its issuer and goes when its input ends.
import { createServer } from "node:http";
import { createHmac } from "node:crypto";
import * as jose from "jose";
import { Provider } from "oidc-provider";

const [clientId, redirect] = process.argv.slice(2);
const groups = { anna: ["shift-astana"], berik: ["isb"], stranger: ["nobody-knows-this-group"] };

async function newKey(kid, alg) {
  const { privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  return { ...(await jose.exportJWK(privateKey)), kid, alg, use: "sig" };
}
const publicPart = ({ d, p, q, dp, dq, qi, ...rest }) => rest;

const first = await newKey("first", "RS256");
let signing = first; // What altered tokens are signed with.
let published = null; // What takes the place of the keys, once they were rotated.
let wrong = null;
let who = "anna";

const server = createServer();
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: clientId,
    client_secret: "the-secret-of-this-site",
    redirect_uris: [redirect],
    grant_types: ["authorization_code"],
    response_types: ["code"],
    token_endpoint_auth_method: "client_secret_basic",
  }],
  jwks: { keys: [first] },
  cookies: { keys: ["a-key-for-tests"] },
  pkce: { required: () => true },
  conformIdTokenClaims: false,
  claims: { openid: ["sub"], profile: ["groups"] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id, groups: groups[id] ?? [] }) }),
});

// Signs in without asking, and consents.
async function interact(ctx) {
  const { params, prompt } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === "login") {
    return provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: who, remember: false } });
  }
  const grant = new provider.Grant({ accountId: who, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return provider.interactionFinished(ctx.req, ctx.res, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

const changes = {
  expired: (claims) => ({ ...claims, iat: claims.iat - 7200, exp: claims.iat - 3600 }),
  "wrong-audience": (claims) => ({ ...claims, aud: "another-site" }),
  "two-audiences": (claims) => ({ ...claims, aud: [clientId, "another-site"] }),
  "wrong-azp": (claims) => ({ ...claims, aud: [clientId, "another-site"], azp: "another-site" }),
  "wrong-issuer": (claims) => ({ ...claims, iss: "http://127.0.0.1:1" }),
  "wrong-nonce": (claims) => ({ ...claims, nonce: "of-another-question" }),
  "no-nonce": ({ nonce, ...claims }) => claims,
  future: (claims) => ({ ...claims, iat: claims.iat + 3600 }),
  rotated: (claims) => claims,
  forged: (claims) => claims,
};

async function altered(token) {
  const claims = changes[wrong] ? changes[wrong](jose.decodeJwt(token)) : jose.decodeJwt(token);
  const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  if (wrong === "none") return `${encoded({ alg: "none", kid: signing.kid })}.${encoded(claims)}.`;
  if (wrong === "hmac") {
    const text = `${encoded({ alg: "HS256", kid: signing.kid })}.${encoded(claims)}`;
    return `${text}.${createHmac("sha256", JSON.stringify(publicPart(signing))).update(text).digest("base64url")}`;
  }
  // Another key under the name of the right one.
  const key = wrong === "forged" ? await newKey(signing.kid, signing.alg) : signing;
  const header = { alg: key.alg, kid: key.kid };
  return new jose.SignJWT(claims).setProtectedHeader(header).sign(await jose.importJWK(key, key.alg));
}

provider.use(async (ctx, next) => {
  if (ctx.path.startsWith("/interaction/")) return interact(ctx);
  if (ctx.path === "/test") {
    const query = new URLSearchParams(ctx.querystring);
    who = query.get("as") ?? who;
    wrong = query.get("wrong");
    if (wrong === "rotated") {
      signing = await newKey(`rotated-${Date.now()}`, "ES256");
      published = { keys: [publicPart(signing)] };
    }
    ctx.body = "done";
    return undefined;
  }
  await next();
  if (ctx.path === "/jwks" && published) ctx.body = published;
  if (ctx.path === "/token" && ctx.body?.id_token && (wrong || published)) ctx.body.id_token = await altered(ctx.body.id_token);
  return undefined;
});

server.on("request", provider.callback());
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
console.log(issuer);
