// The report as a comment on the pull request that a commit belongs to; the comment of the run before is written over.
// For actions/github-script: await require('./.ci/comment.js')({github, context, core})
const fs = require('fs')
const MARK = '<!-- xraypneu report -->'

// The open pull request whose newest commit was built: `head` is owner:branch of the run's own repository, as GitHub says, not as the run says.
const byHead = async (github, repo, head, sha) => {
  const found = await github.request('GET /repos/{owner}/{repo}/pulls', {...repo, head, state: 'open'})
  return found.data.find(p => p.head.sha === sha)
}

const byCommit = async (github, repo, sha) => {
  const found = await github.request('GET /repos/{owner}/{repo}/commits/{sha}/pulls', {...repo, sha})
  return found.data[0]
}

const mine = async (github, repo, number) => {
  for (let page = 1; ; page++) {
    const found = await github.request('GET /repos/{owner}/{repo}/issues/{number}/comments', {...repo, number, per_page: 100, page})
    const own = found.data.find(c => c.user.type === 'Bot' && c.body.startsWith(MARK))
    if (own || found.data.length < 100) return own
  }
}

module.exports = async ({github, context, core}) => {
  const body = fs.readFileSync(process.env.REPORT, 'utf8')
  if (!body.startsWith(MARK) || body.length > 65000) throw new Error(`${process.env.REPORT} is not a report`)
  const {owner, repo} = context.repo, at = {owner, repo}
  const run = context.payload.workflow_run, sha = run ? run.head_sha : context.sha
  const pull = run ? await byHead(github, at, `${run.head_repository.owner.login}:${run.head_branch}`, sha) : await byCommit(github, at, sha)
  if (!pull) return core.notice(`no pull request belongs to ${sha}: the report is in the job's summary`)
  const own = await mine(github, at, pull.number)
  if (own) await github.request('PATCH /repos/{owner}/{repo}/issues/comments/{id}', {...at, id: own.id, body})
  else await github.request('POST /repos/{owner}/{repo}/issues/{number}/comments', {...at, number: pull.number, body})
  core.notice(`report: pull request ${pull.number}`)
}
