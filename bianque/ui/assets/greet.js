async (turns, mode) => {
  await bianque.ready;
  return [bianque.turns(), bianque.prefs.mode || mode];
}
