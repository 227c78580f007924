// Does the engine compute what torch computed?
"use strict";

// Follow the steps of a reference that wmlib.page.reference(agent, rows) computed with torch.
// Returns the largest difference |a - b| / (1 + |b|), and where it is.
function selfTest(pack, reference) {
  const agent = new Agent(pack);
  let worst = 0, where = "nowhere";
  const compare = (found, wanted, name) => {
    if (typeof wanted === "number") {
      const error = Math.abs(found - wanted) / (1 + Math.abs(wanted));
      if (!(error <= worst)) [worst, where] = [error, name];
    } else for (const key in wanted) compare(found?.[key], wanted[key], `${name}.${key}`);
  };
  reference.forEach(({ obs, action, first, z, wanted }, t) => {
    if (obs) agent.observe(obs, action, first, z);
    else agent.imagine(action, 1, z);
    const { h, prior, posterior, embed } = agent;
    const exact = Object.assign(agent.fork(), { h: wanted.h }); // bins of 5e8 magnify rounding of h
    const found = { h, prior, posterior, embed, decode: agent.decode(), policy: agent.policy(),
      continues: agent.continues(), surprise: agent.surprise(), reward: exact.reward(), value: exact.value() };
    for (const name in wanted) compare(found[name], wanted[name], `${name} of step ${t}`);
  });
  return { worst, where };
}
