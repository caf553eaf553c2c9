// Files that are built into the program: SQL as its text, the rest as a path to read it from.

declare module '*.sql' {
  const text: string
  export default text
}

declare module '*.css' {
  const path: string
  export default path
}

declare module 'swagger-ui-dist/swagger-ui-bundle.js' {
  const path: string
  export default path
}

declare module 'swagger-ui-dist/favicon-32x32.png' {
  const path: string
  export default path
}
