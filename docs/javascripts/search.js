// The words of a question that tell something, before the search gets them. By itself the search takes "-word" for
// "without this word" and finds nothing for "--reload". It also finds all words that begin as a word of the question
// does: "to" finds "toolbar", and "c" of "Ctrl-C" finds a lot. A question with quotation marks stays as it is.
(() => {
  const QUERY = 2; // the type of the message with which the theme asks its worker
  const SMALL = new Set(
    ("a an and are as at be by can do does for from how i in is it many my of on or the to too what when which why " +
      "with").split(" ")
  );

  const bare = (word) => word.replace(/^-+/, "").replace(/^.-(?=.)|-.?$/g, "");

  const telling = (question) => {
    const words = question.split(/\s+/).map(bare).filter(Boolean);
    const few = words.filter((word) => !/^[a-z]$/i.test(word) && !SMALL.has(word.toLowerCase()));
    return (few.length ? few : words).join(" ");
  };

  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (message, ...rest) {
    if (message?.type === QUERY && typeof message.data === "string" && !message.data.includes('"')) {
      message = { ...message, data: telling(message.data) };
    }
    return post.call(this, message, ...rest);
  };
})();
