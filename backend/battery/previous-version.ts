/**
 * The commit that the battery runs together with this version: the last that was released. Whoever releases
 * puts that commit here.
 */
export const previousVersion = '51e611c1da0a667efe7f75cc07471e227722dd63'
