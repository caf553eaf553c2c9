import { readFileSync } from 'node:fs'

const ticksPerSecond = 100 // USER_HZ, which Linux gives to programs whatever its own clock is

/**
 * The CPU time that a process and its children have used, in seconds: user and system time of all
 * threads, from the kernel's own accounting (proc(5)). Unlike time on the clock it does not grow
 * when others keep the machine busy.
 */
export function cpuSeconds(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
  const pids = children.split(' ').filter(Boolean).map(Number)
  try {
    return [pid, ...pids].reduce((sum, each) => sum + ownSeconds(each), 0)
  } catch {
    // A child has ended since the list was made. Its time is its parent's now.
    return cpuSeconds(pid)
  }
}

/** With what its children had used when they ended. */
function ownSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The second field is the name in parentheses, which may have spaces; utime is field 14.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / ticksPerSecond
}

/** The memory that a process has resident, in MB. */
export function residentMegabytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
}
