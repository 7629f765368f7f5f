// Runs .ci/comment.js as actions/github-script does, against the address in GITHUB_API_URL: node github.mjs PAYLOAD
import {createRequire} from 'node:module'
const require = createRequire(process.cwd() + '/')
const context = {repo: {owner: 'team', repo: 'xray'}, serverUrl: 'https://host.invalid', runId: 7, ...JSON.parse(process.argv[2])}

const request = async (route, params) => {
  const [method, path] = route.split(' '), rest = {...params}
  const url = new URL(process.env.GITHUB_API_URL + path.replace(/\{(\w+)\}/g, (_, k) => { const v = rest[k]; delete rest[k]; return encodeURIComponent(v) }))
  if (method === 'GET') for (const [k, v] of Object.entries(rest)) url.searchParams.set(k, v)
  const answer = await fetch(url, {method, body: method === 'GET' ? undefined : JSON.stringify(rest)})
  if (!answer.ok) throw Object.assign(new Error(`${route}: ${answer.status}`), {status: answer.status}) // as Octokit's RequestError
  return {data: await answer.json()}
}

const said = kind => m => console.log(`${kind}: ${m}`)
await require('./.ci/comment.js')({github: {request}, context, core: {notice: said('notice'), warning: said('warning')}})
