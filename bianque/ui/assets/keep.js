watch('value', () => {
  const turns = props.value || [];
  if (turns.length || bianque.greeted) bianque.keep(turns);  // before, it is empty because nothing has come yet
});
