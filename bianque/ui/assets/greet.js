async () => {
  await bianque.ready;
  return [bianque.turns(), bianque.prefs.mode || 'auto'];
}
