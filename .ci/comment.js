// Posts the report as a comment on the pull request of a commit, or updates the comment of an earlier run.
// For actions/github-script: await require('./.ci/comment.js')({github, context, core})
//
// It is used unless the variable XRAYPNEU_COMMENT is `cml`, and needs only the action. `make report` always writes the
// report into the run's summary. So a token that may not comment causes a warning, with the reason in the summary, and
// the job stays green.
const fs = require('fs')
const MARK = '<!-- xraypneu report -->'
const LIMIT = 65000 // characters; GitHub takes 65,536

// Statuses with which GitHub refuses a comment for good.
const REFUSED = {
  401: 'the token is not valid',
  403: 'the token may not comment here, or the conversation is locked',
  404: 'the token may not see this repository or conversation',
  410: 'comments are turned off',
}

// The open pull request whose newest commit was built; `head` (owner:branch) comes from GitHub, not from the run.
const byHead = async (github, repo, head, sha) => {
  const response = await github.request('GET /repos/{owner}/{repo}/pulls', {...repo, head, state: 'open'})
  return response.data.find(p => p.head.sha === sha)
}

const byCommit = async (github, repo, sha) => {
  const response = await github.request('GET /repos/{owner}/{repo}/commits/{sha}/pulls', {...repo, sha})
  return response.data[0]
}

const mine = async (github, repo, number) => {
  for (let page = 1; ; page++) {
    const query = {...repo, number, per_page: 100, page}
    const response = await github.request('GET /repos/{owner}/{repo}/issues/{number}/comments', query)
    const comment = response.data.find(c => c.user?.type === 'Bot' && c.body?.startsWith(MARK))
    if (comment || response.data.length < 100) return comment
  }
}

// The report, shortened if it is too long: it ends before the section that doesn't fit (or within the first section, if
// that alone is too long) and links to the rest.
const fitted = (body, url) => {
  if (body.length <= LIMIT) return body
  const room = body.slice(0, LIMIT - 500)
  const section = room.lastIndexOf('\n## '), line = room.lastIndexOf('\n')
  let text = room.slice(0, section > 0 ? section : line > 0 ? line : room.length)
  if ((text.match(/^```/gm) || []).length % 2) text += '\n```'
  const open = (text.match(/<details/g) || []).length - (text.match(/<\/details>/g) || []).length
  const rest = `**The report is too long for a comment and ends here; the rest is in [the run's summary](${url}).**`
  return `${text}${'\n</details>'.repeat(Math.max(0, open))}\n\n${rest}\n`
}

const written = async (github, at, pull, body) => {
  const comment = await mine(github, at, pull.number)
  if (comment) await github.request('PATCH /repos/{owner}/{repo}/issues/comments/{id}', {...at, id: comment.id, body})
  else await github.request('POST /repos/{owner}/{repo}/issues/{number}/comments', {...at, number: pull.number, body})
}

const refused = (core, status) => {
  const why = `The report could not be posted as a comment: ${REFUSED[status]} (HTTP ${status}). ` +
    "It is in the run's summary. The job needs `pull-requests: write`."
  core.warning(why)
  if (process.env.GITHUB_STEP_SUMMARY) fs.appendFileSync(process.env.GITHUB_STEP_SUMMARY, `> [!WARNING]\n> ${why}\n`)
}

module.exports = async ({github, context, core}) => {
  const report = fs.readFileSync(process.env.REPORT, 'utf8')
  if (!report.startsWith(MARK)) throw new Error(`${process.env.REPORT} is not a report`)
  const {owner, repo} = context.repo, at = {owner, repo}
  const run = context.payload.workflow_run, sha = run ? run.head_sha : context.sha
  const url = run ? run.html_url : `${context.serverUrl}/${owner}/${repo}/actions/runs/${context.runId}`
  try {
    const head = run && `${run.head_repository.owner.login}:${run.head_branch}`
    const pull = run ? await byHead(github, at, head, sha) : await byCommit(github, at, sha)
    if (!pull) return core.notice(`no pull request belongs to ${sha}: the report is in the job's summary`)
    await written(github, at, pull, fitted(report, url))
    core.notice(`report: pull request ${pull.number}`)
  } catch (e) {
    if (!REFUSED[e.status]) throw e // network failure or a host that is down: the job fails and can be run again
    refused(core, e.status)
  }
}
