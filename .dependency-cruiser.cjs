/**
 * Who may import whom: the table of docs/architecture.md, one rule a row. `$1` is the service that the first capture
 * of `from` matched. A rule names what a folder may import and forbids the rest of src/; packages are not its business.
 */
const service = '^src/(compute|volume|network|scheduler|objectstore)';
const anyRpc = '^src/[^/]+/rpc[.]ts$';
const anyApi = '^src/[^/]+/(api|(security_group|provider_firewall)_api)[.]ts$';

/** Files under `from` may import only the paths in `may` (and packages). */
const only = (name, comment, from, may) => ({
  name,
  comment,
  severity: 'error',
  from,
  to: { path: '^src/', pathNot: may },
});

module.exports = {
  forbidden: [
    only('common', 'src/common/ knows no service', { path: '^src/common/' }, ['^src/common/']),
    only(
      'http',
      'src/api/ calls services by their api.ts and rpc.ts; managers, drivers and logic/ are theirs',
      { path: '^src/api/', pathNot: '^src/api/main[.]ts$' },
      ['^src/api/', '^src/common/', anyApi, anyRpc],
    ),
    only(
      'api',
      'api.ts, and what is split from it beside it, decides with its own logic/ and asks other services by rpc.ts and api.ts',
      { path: `${service}/[^/]+[.]ts$`, pathNot: '/(main|app|classes|dhcpbridge|compute_side|take_down)[.]ts$' },
      ['^src/common/', '^src/$1/logic/', '^src/$1/(?!classes)[^/]+[.]ts$', anyApi, anyRpc],
    ),
    only(
      'manager',
      'a manager knows the driver interface, every rpc.ts and logic/ (the scheduler sweeps by the table of each resource)',
      { path: `${service}/manager/` },
      ['^src/common/', '^src/$1/manager/', '^src/[^/]+/logic/', '^src/$1/drivers/driver[.]ts$', anyRpc],
    ),
    only(
      'driver',
      'a driver touches the host (common/linux/ helps), never the database, the queue or a manager',
      { path: `${service}/drivers/` },
      [
        '^src/common/(difference|execute|errors|flags|log|clock|network_info|volume_connection|state_file)[.]ts$',
        '^src/common/linux/',
        '^src/$1/(drivers|logic)/',
      ],
    ),
    {
      name: 'logic',
      comment: 'logic/ is arguments in, value out: of common/ it takes errors.ts, eui64.ts, and types',
      severity: 'error',
      from: { path: '^src/[^/]+/logic/' },
      to: {
        path: '^src/',
        pathNot: ['^src/[^/]+/logic/', '^src/common/(errors|eui64)[.]ts$'],
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'logic-types',
      comment: 'logic/ takes types from common/ and other logic/ only',
      severity: 'error',
      from: { path: '^src/[^/]+/logic/' },
      to: { path: '^src/', pathNot: ['^src/[^/]+/logic/', '^src/common/'] },
    },
    {
      name: 'logic-node',
      comment: 'logic/ touches no host and waits for nothing: no node:*',
      severity: 'error',
      from: { path: '^src/[^/]+/logic/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'main',
      comment: 'main.ts is wiring: nobody imports it, save nova-all, which runs several in one process, and tests',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/all/' },
      to: { path: '^src/[^/]+/main[.]ts$' },
    },
    {
      name: 'cycle',
      comment: 'no cycles anywhere, of types neither',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|node_modules)/' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: 'specify',
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
